//! The suite of bilevel problems: the oracle's derivative checks, what batches mean, scores against the Hessian, the same bits at every
//! thread count, refusals.

use super::Report;
use super::model::ROUNDING;
use crate::dense::{Matrix, add_scaled, dot, norm, relative_error};
use crate::error::Result;
use crate::model::{FisherIdentity, FisherKind};
use crate::operator::LinearOperator;
use crate::oracle::check_problem;
use crate::par;
use crate::problem::Problem;
use crate::rng::Key;
use crate::samples::Batch;

/// What a problem claims beyond the contract of [`Problem`]. The default is everything.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProblemClaims<'a> {
    /// Whether expected Fisher rows plus Λ are the Hessian at every θ.
    pub fisher: FisherIdentity,
    /// The kinds of score rows that there are; others are refused.
    pub kinds: &'a [FisherKind],
    /// Two forms of one derivative agree to this: looser where a default by differences is in use.
    pub derivatives: f64,
}

impl Default for ProblemClaims<'_> {
    fn default() -> Self {
        Self { fisher: FisherIdentity::Hessian, kinds: &FisherKind::ALL, derivatives: ROUNDING }
    }
}

struct Suite<'a> {
    problem: &'a dyn Problem,
    claims: ProblemClaims<'a>,
    v: Vec<f64>,
    theta: Vec<f64>,
    u_v: Vec<f64>,
    u_theta: Vec<f64>,
    key: Key,
}

/// Which samples an operation is a mean over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Inner,
    Outer,
}

/// Where an operation is called.
#[derive(Clone, Copy)]
struct At<'a> {
    v: &'a [f64],
    theta: &'a [f64],
    batch: Batch<'a>,
    u_v: &'a [f64],
    u_theta: &'a [f64],
}

type Operation = (&'static str, Over, fn(&dyn Problem, At<'_>) -> Result<Vec<f64>>);

/// Every mean over a batch of samples, as a list of numbers.
const OPERATIONS: [Operation; 12] = [
    ("f_inner", Over::Inner, |p, at| Ok(vec![p.f_inner(at.v, at.theta, at.batch)?])),
    ("grad_inner", Over::Inner, |p, at| p.grad_inner(at.v, at.theta, at.batch)),
    ("grad_v", Over::Inner, |p, at| p.grad_v(at.v, at.theta, at.batch)),
    ("hvp", Over::Inner, |p, at| p.hvp(at.v, at.theta, at.batch, at.u_theta)),
    ("cross_vjp", Over::Inner, |p, at| p.cross_vjp(at.v, at.theta, at.batch, at.u_theta)),
    ("cross_jvp", Over::Inner, |p, at| p.cross_jvp(at.v, at.theta, at.batch, at.u_v)),
    ("inner_products ∇_θ g", Over::Inner, |p, at| Ok(p.inner_products(at.v, at.theta, at.batch, at.u_theta)?.gradient)),
    ("inner_products Hq", Over::Inner, |p, at| Ok(p.inner_products(at.v, at.theta, at.batch, at.u_theta)?.hvp)),
    ("inner_products Jᵀq", Over::Inner, |p, at| Ok(p.inner_products(at.v, at.theta, at.batch, at.u_theta)?.cross_vjp.into_vec())),
    ("f_outer", Over::Outer, |p, at| Ok(vec![p.f_outer(at.v, at.theta, at.batch)?])),
    ("grad_outer θ", Over::Outer, |p, at| Ok(p.grad_outer(at.v, at.theta, at.batch)?.theta)),
    ("grad_outer v", Over::Outer, |p, at| Ok(p.grad_outer(at.v, at.theta, at.batch)?.v.into_vec())),
];

/// Whether an operation takes a direction of θ's length.
fn takes_q(operation: &str) -> bool {
    ["hvp", "cross_vjp"].contains(&operation) || operation.starts_with("inner_products")
}

/// A problem at a random (v, θ), and its hypergradient at θ*(v).
pub fn problem(problem: &dyn Problem, claims: ProblemClaims<'_>, key: Key) -> Report {
    let mut report = Report::new(problem.name());
    let random = |purpose: &str, n: usize| key.named(purpose).stream().normals(n);
    let (d1, d2) = (problem.outer_dim(), problem.inner_dim());
    let suite = Suite {
        problem,
        claims,
        v: random("outer", d1),
        theta: random("inner", d2),
        u_v: random("outer direction", d1),
        u_theta: random("inner direction", d2),
        key,
    };
    report.part("derivatives exist", "a random point", |report| {
        check_problem(problem, key)?.into_iter().for_each(|check| report.check("a random point", check));
        Ok(())
    });
    report.part("sizes", "initial point", |report| suite.sizes(report));
    report.part("batches are evaluated", "batches", |report| suite.batches(report));
    report.part("one pass", "inner products", |report| suite.one_pass(report));
    report.part("second derivatives exist", "products", |report| suite.products(report));
    report.part("scores are handed out", "every kind", |report| suite.scores(report));
    report.part("threads", "1, 2, 4", |report| suite.threads(report));
    report.part("misuse is answered", "refusals", |report| suite.refusals(report));
    report
}

impl Suite<'_> {
    fn at<'a>(&'a self, batch: Batch<'a>) -> At<'a> {
        At { v: &self.v, theta: &self.theta, batch, u_v: &self.u_v, u_theta: &self.u_theta }
    }

    fn samples(&self, over: Over) -> usize {
        match over {
            Over::Inner => self.problem.inner_samples(),
            Over::Outer => self.problem.outer_samples(),
        }
    }

    fn sizes(&self, report: &mut Report) -> Result<()> {
        let problem = self.problem;
        report.holds("no size is 0", "sizes", || {
            Ok([problem.outer_dim(), problem.inner_dim(), problem.inner_samples(), problem.outer_samples()].iter().all(|&n| n > 0))
        });
        report.holds("runs start at a finite point of the right size", "initial", || {
            let (v, theta) = problem.initial();
            let finite = v.iter().chain(&theta).all(|x| x.is_finite());
            Ok(finite && (v.len(), theta.len()) == (problem.outer_dim(), problem.inner_dim()))
        });
        report.holds("there is a metric for each name", "metrics", || {
            Ok(problem.metrics(&self.v, &self.theta)?.len() == problem.metric_names().len())
        });
        report.holds("Λ is positive semi-definite, of order d2", "known curvature", || {
            let known = problem.known_curvature(&self.v)?;
            Ok(known.dim() == problem.inner_dim() && known.min_eigenvalue() >= 0.0)
        });
        Ok(())
    }

    /// What one pass gives is what three give.
    fn one_pass(&self, report: &mut Report) -> Result<()> {
        let indices = self.key.named("one pass").stream().indices(self.problem.inner_samples(), 65)?;
        for (batch, case) in [(Batch::All, "all samples"), (Batch::Indices(&indices), "65 samples")] {
            let (v, theta, q) = (&self.v, &self.theta, &self.u_theta);
            report.within("inner_products are the gradient and the two products", case, ROUNDING, || {
                let one = self.problem.inner_products(v, theta, batch, q)?;
                let errors = [
                    relative_error(&one.gradient, &self.problem.grad_inner(v, theta, batch)?),
                    relative_error(&one.hvp, &self.problem.hvp(v, theta, batch, q)?),
                    relative_error(&one.cross_vjp.to_vec(), &self.problem.cross_vjp(v, theta, batch, q)?),
                ];
                Ok(errors.into_iter().fold(0.0, f64::max))
            });
        }
        Ok(())
    }

    /// An operation over a batch is the mean of the operation over its samples: R, being in each, is in the mean once.
    fn batches(&self, report: &mut Report) -> Result<()> {
        for (name, over, operation) in OPERATIONS {
            let n = self.samples(over);
            let all: Vec<usize> = (0..n).collect();
            report.within("a batch of all samples is all samples", name, 1e-12, || {
                let at = |batch| operation(self.problem, self.at(batch));
                Ok(relative_error(&at(Batch::Indices(&all))?, &at(Batch::All)?))
            });
            for size in [1, 2, 9, 65] {
                let mut indices = self.key.named("mean").child(size as u64).stream().indices(n, size)?;
                indices[size - 1] = indices[0];
                report.within(
                    "an operation is the mean over the batch, repeated samples included",
                    format_args!("{name}, {size} samples"),
                    self.claims.derivatives,
                    || {
                        let found = operation(self.problem, self.at(Batch::Indices(&indices)))?;
                        let mut mean = vec![0.0; found.len()];
                        for index in &indices {
                            let one = operation(self.problem, self.at(Batch::Indices(std::slice::from_ref(index))))?;
                            add_scaled(name, 1.0 / size as f64, &one, &mut mean)?;
                        }
                        Ok(relative_error(&found, &mean))
                    },
                );
            }
        }
        Ok(())
    }

    fn products(&self, report: &mut Report) -> Result<()> {
        let (problem, v, theta, u) = (self.problem, &self.v, &self.theta, &self.u_theta);
        let w = self.key.named("second direction").stream().normals(theta.len());
        let hvp = |u: &[f64]| problem.hvp(v, theta, Batch::All, u);
        report.within("the Hessian product is symmetric", "uᵀHw", self.claims.derivatives.max(1e-9), || {
            let (hu, hw) = (hvp(u)?, hvp(&w)?);
            let scale = norm(&hu) * norm(&w) / (w.len() as f64).sqrt();
            Ok((dot(&w, &hu) - dot(u, &hw)).abs() / scale)
        });
        report.within("the Hessian product is linear", "H(u − 2w)", self.claims.derivatives, || {
            let combined: Vec<f64> = u.iter().zip(&w).map(|(u, w)| u - 2.0 * w).collect();
            let sum: Vec<f64> = hvp(u)?.iter().zip(hvp(&w)?).map(|(u, w)| u - 2.0 * w).collect();
            Ok(relative_error(&hvp(&combined)?, &sum))
        });
        Ok(())
    }

    fn scores(&self, report: &mut Report) -> Result<()> {
        let (problem, v, theta, key) = (self.problem, &self.v, &self.theta, self.key.named("labels"));
        let (n, d) = (problem.inner_samples(), problem.inner_dim());
        let indices = self.key.named("scored").stream().indices(n, 20)?;
        let batch = Batch::Indices(&indices);
        for kind in FisherKind::ALL {
            let scores = |batch, key| problem.scores(v, theta, batch, kind, key);
            if !self.claims.kinds.contains(&kind) {
                report.refuses("a kind of score that is not claimed is refused", kind.name(), || scores(batch, key));
                continue;
            }
            let rows = |batch, key| scores(batch, key)?.project(&Matrix::identity(d));
            report.holds("scores have the batch's samples, whole rows a sample, and order d2", kind.name(), || {
                let block = scores(batch, key)?;
                Ok((block.samples(), block.dim(), block.rows() % indices.len()) == (indices.len(), d, 0))
            });
            report.holds("scores are a function of their key", kind.name(), || {
                let varies = kind == FisherKind::Sampled;
                Ok(rows(batch, key)? == rows(batch, key)? && (rows(batch, key)? != rows(batch, key.child(1))?) == varies)
            });
            if kind != FisherKind::Sampled {
                report.within("a sample's rows do not depend on its batch", kind.name(), ROUNDING, || {
                    let (all, some) = (rows(Batch::All, key)?, rows(batch, key)?);
                    let r = all.nrows() / n;
                    let picked = Matrix::from_fn(some.nrows(), d, |i, j| all[(indices[i / r] * r + i % r, j)]);
                    Ok(relative_error(some.as_slice(), picked.as_slice()))
                });
            }
        }
        if self.claims.fisher == FisherIdentity::Hessian && self.claims.kinds.contains(&FisherKind::Expected) {
            let tolerance = self.claims.derivatives.max(1e-10);
            report.within("expected Fisher matrix + Λ = Hessian", "all samples", tolerance, || {
                let mut fisher = problem.scores(v, theta, Batch::All, FisherKind::Expected, key)?.scatter()?;
                fisher.scale(1.0 / n as f64);
                problem.known_curvature(v)?.add_to(&mut fisher)?;
                Ok(relative_error(fisher.as_slice(), problem.hessian(v, theta)?.as_slice()))
            });
        }
        Ok(())
    }

    fn threads(&self, report: &mut Report) -> Result<()> {
        // Past the cuts of the work, by repetition.
        let indices = [Over::Inner, Over::Outer].map(|over| self.key.named("threads").stream().indices(self.samples(over), 1100));
        let [inner, outer] = indices;
        let (inner, outer) = (inner?, outer?);
        let run = || {
            let mut all = Vec::new();
            for (_, over, operation) in OPERATIONS {
                let batch = Batch::Indices(if over == Over::Inner { &inner } else { &outer });
                all.extend(operation(self.problem, self.at(batch))?);
            }
            for &kind in self.claims.kinds {
                all.extend(self.problem.scores(&self.v, &self.theta, Batch::Indices(&inner), kind, self.key)?.squared_row_norms());
            }
            all.extend(self.problem.hessian(&self.v, &self.theta)?.into_vec());
            Ok::<_, crate::Error>(all.iter().map(|x| x.to_bits()).collect::<Vec<_>>())
        };
        let reference = par::with_threads(1, run)??;
        for threads in [2, 4] {
            report.holds("the same bits at every thread count", format_args!("{threads} threads"), || {
                Ok(par::with_threads(threads, run)?? == reference)
            });
        }
        Ok(())
    }

    fn refusals(&self, report: &mut Report) -> Result<()> {
        let poisoned = |x: &[f64], bad: f64| {
            let mut x = x.to_vec();
            x.iter_mut().last().into_iter().for_each(|last| *last = bad);
            x
        };
        let longer = |x: &[f64]| [x, &[0.0]].concat();
        let (long_v, long_theta, long_u) = (longer(&self.v), longer(&self.theta), longer(&self.u_theta));
        let (short_v, short_theta) = (&self.v[1..], &self.theta[1..]);
        let nan = [&self.v, &self.theta, &self.u_v, &self.u_theta].map(|x| poisoned(x, f64::NAN));
        let infinite = [&self.v, &self.theta, &self.u_v, &self.u_theta].map(|x| poisoned(x, f64::INFINITY));
        for (name, over, operation) in OPERATIONS {
            let n = self.samples(over);
            let at = self.at(Batch::All);
            let mut refuse = |claim: &str, at: At<'_>| report.refuses(claim, name, || operation(self.problem, at));
            refuse("a v of another length is refused", At { v: short_v, ..at });
            refuse("a v of another length is refused", At { v: &long_v, ..at });
            refuse("a θ of another length is refused", At { theta: short_theta, ..at });
            refuse("a θ of another length is refused", At { theta: &long_theta, ..at });
            for [v, theta, u_v, u_theta] in [&nan, &infinite] {
                refuse("a v that is not finite is refused", At { v, ..at });
                refuse("a θ that is not finite is refused", At { theta, ..at });
                match name {
                    _ if takes_q(name) => refuse("a direction that is not finite is refused", At { u_theta, ..at }),
                    "cross_jvp" => refuse("a direction that is not finite is refused", At { u_v, ..at }),
                    _ => {}
                }
            }
            match name {
                _ if takes_q(name) => refuse("a direction of another length is refused", At { u_theta: &long_u, ..at }),
                "cross_jvp" => refuse("a direction of another length is refused", At { u_v: &long_v, ..at }),
                _ => {}
            }
            refuse("an empty batch is refused", At { batch: Batch::Indices(&[]), ..at });
            refuse("an index that is not there is refused", At { batch: Batch::Indices(&[0, n]), ..at });
        }
        let n = self.problem.inner_samples();
        for &kind in self.claims.kinds {
            let mut refuse = |claim: &str, v: &[f64], theta: &[f64], batch| {
                report.refuses(claim, "scores", || self.problem.scores(v, theta, batch, kind, self.key));
            };
            refuse("a v of another length is refused", &long_v, &self.theta, Batch::All);
            refuse("a θ of another length is refused", &self.v, &long_theta, Batch::All);
            refuse("a v that is not finite is refused", &nan[0], &self.theta, Batch::All);
            refuse("a θ that is not finite is refused", &self.v, &nan[1], Batch::All);
            refuse("an empty batch is refused", &self.v, &self.theta, Batch::Indices(&[]));
            refuse("an index that is not there is refused", &self.v, &self.theta, Batch::Indices(&[n]));
        }
        report.refuses("a θ of another length is refused", "hessian", || self.problem.hessian(&self.v, short_theta));
        report.refuses("a v of another length is refused", "metrics", || match self.problem.metric_names().is_empty() {
            false => self.problem.metrics(&long_v, &self.theta),
            // Without metrics there is nothing to refuse.
            true => Err(crate::Error::argument("outer_var", self.v.len(), long_v.len())),
        });
        Ok(())
    }
}
