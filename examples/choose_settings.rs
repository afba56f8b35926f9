//! Chooses the settings of `notebooks-data/*.toml` by cross-validation within the validation set, on seeds that no reported figure
//! uses. Test sets are never looked at: the problems here have none.
//!
//! `cargo run --release --example choose_settings -- digits` takes about half an hour on two cores;
//! `… -- mnist DIR` takes MNIST from a folder of IDX files.

use std::env;

use nhgd::bilevel::{
    self, CurvatureRows, Damping, Ended, ExactConfig, MethodConfig, NhgdConfig, Observer, SampleCount, State, StepSize, Stop,
};
use nhgd::curvature::{CurvatureConfig, NystromConfig, WindowConfig};
use nhgd::oracle::{NewtonOptions, inner_solution};
use nhgd::par;
use nhgd::problem::{DataCleaning, DataCleaningConfig, DataSet, DataSource, HeldOut, OracleCounts, Problem};
use nhgd::rng::Key;
use nhgd::samples::{Batch, Precision};
use nhgd::{Error, Result};

/// Kept apart from the seeds of the reported figures.
const SEEDS: [u64; 3] = [10, 11, 12];
const FOLDS: usize = 5;

/// A seed, the problem that is fitted, and the one whose validation samples it does not see.
type Split = (u64, HeldOut);

/// The held-out loss every so many outer steps.
struct Judge<'a> {
    problem: &'a dyn Problem,
    every: u64,
    losses: Vec<f64>,
}

impl Observer for Judge<'_> {
    fn stepped(&mut self, state: &State, _counts: OracleCounts) -> Result<()> {
        if state.step > 0 && state.step.is_multiple_of(self.every) {
            self.losses.push(self.problem.f_outer(&state.outer_var, &state.inner_var, Batch::All)?);
        }
        Ok(())
    }
}

/// Mean held-out losses over `splits` after every `every`-th of `outer_steps`, one line for each setting; then the rule: the setting
/// and the number of steps with the least loss of all.
fn sweep(splits: &[Split], grid: Vec<(String, MethodConfig)>, every: u64, outer_steps: u64) -> Result<()> {
    let mut best = (f64::INFINITY, String::new());
    let heads: Vec<String> = (1..=outer_steps / every).map(|i| format!("{:>6}", i * every)).collect();
    println!("{:<60}{}", "held-out loss after outer steps", heads.join(" "));
    for (name, config) in grid {
        let method = config.build()?;
        let curves = par::map(splits.iter().collect(), |(seed, HeldOut { fit, judge })| -> Result<Vec<f64>> {
            let mut observer = Judge { problem: judge.as_ref(), every, losses: Vec::new() };
            let outcome =
                bilevel::run(fit.as_ref(), method.as_ref(), Key::new(*seed).named("run"), Stop::after(outer_steps), &mut observer)?;
            if let Ended::Failed(status) = outcome.ended {
                eprintln!("{name}, seed {seed}: {status}");
                observer.losses.resize((outer_steps / every) as usize, f64::INFINITY);
            }
            Ok(observer.losses)
        });
        let curves = curves.into_iter().collect::<Result<Vec<_>>>()?;
        let mean = |i: usize| curves.iter().map(|curve| curve[i]).sum::<f64>() / curves.len() as f64;
        let losses: Vec<f64> = (0..heads.len()).map(mean).collect();
        let cells: Vec<String> = losses.iter().map(|loss| format!("{loss:.4}")).collect();
        println!("{name:<60}{}", cells.join(" "));
        for (i, loss) in losses.into_iter().enumerate() {
            if loss < best.0 {
                best = (loss, format!("{name}, {} outer steps", (i as u64 + 1) * every));
            }
        }
    }
    println!("chosen: {} ({:.4})\n", best.1, best.0);
    Ok(())
}

fn splits(config: &DataCleaningConfig, source: &DataSource, seeds: &[u64], folds: usize) -> Result<Vec<Split>> {
    let mut splits = Vec::new();
    for &seed in seeds {
        let problem = DataCleaning::load(config, source, Key::new(seed).named("problem"))?;
        for fold in 0..folds {
            splits.extend(problem.hold_out(fold, FOLDS)?.map(|parts| (seed, parts)));
        }
    }
    Ok(splits)
}

fn window(samples: usize) -> CurvatureConfig {
    CurvatureConfig::Window(WindowConfig { samples })
}

fn digits() -> Result<()> {
    let source = DataSource::default();
    // The ridge is the problem's, the same for every method: the one at which plain training on the noisy labels does best, which
    // is the hardest for everything that is compared with it.
    println!("{:<60}validation loss of training on the noisy labels", "ridge");
    let mut best = (f64::INFINITY, 0.0);
    for ridge in [1e-4, 3e-4, 1e-3, 3e-3, 1e-2] {
        let mut sum = 0.0;
        for seed in SEEDS {
            let config = DataCleaningConfig { ridge, ..Default::default() };
            let problem = DataCleaning::load(&config, &source, Key::new(seed).named("problem"))?;
            let noisy = problem.baselines()?.swap_remove(0);
            let theta =
                inner_solution(noisy.problem.as_ref(), &noisy.outer_var, &problem.initial().1, NewtonOptions::default())?.theta;
            sum += problem.f_outer(&noisy.outer_var, &theta, Batch::All)?;
        }
        let loss = sum / SEEDS.len() as f64;
        println!("{ridge:<60}{loss:.4}");
        best = if loss < best.0 { (loss, ridge) } else { best };
    }
    let splits = splits(&DataCleaningConfig { ridge: best.1, ..Default::default() }, &source, &SEEDS, FOLDS)?;

    let mut grid = Vec::new();
    for alpha in [0.5, 1.0] {
        for eta in [1000.0, 2000.0, 4000.0] {
            for damping in [1e-3, 1e-2, 1e-1] {
                for samples in [512, 1024] {
                    let config = NhgdConfig {
                        inner_step_size: StepSize::constant(alpha),
                        outer_step_size: StepSize::constant(eta),
                        damping: Damping::Fixed(damping),
                        curvature: window(samples),
                        ..Default::default()
                    };
                    grid.push((format!("window {samples} α={alpha} η={eta} μ={damping}"), MethodConfig::Nhgd(config)));
                }
            }
        }
    }
    sweep(&splits, grid, 20, 200)?;

    let mut grid = Vec::new();
    for sketch_size in [64, 128] {
        for gamma in [0.05, 0.1] {
            for eta in [2000.0, 4000.0] {
                for damping in [1e-2, 1e-1] {
                    let config = NhgdConfig {
                        inner_step_size: StepSize::constant(1.0),
                        outer_step_size: StepSize::constant(eta),
                        damping: Damping::Fixed(damping),
                        curvature_decay: gamma,
                        curvature: CurvatureConfig::Nystrom(NystromConfig { sketch_size, probes: Some(0), ..Default::default() }),
                        ..Default::default()
                    };
                    grid.push((format!("nystrom ℓ={sketch_size} γ={gamma} α=1 η={eta} μ={damping}"), MethodConfig::Nhgd(config)));
                }
            }
        }
    }
    sweep(&splits, grid, 20, 200)?;

    let mut grid = Vec::new();
    for eta in [1000.0, 2000.0, 4000.0] {
        let config = ExactConfig {
            inner_step_size: StepSize::constant(1.0),
            outer_step_size: StepSize::constant(eta),
            ..Default::default()
        };
        grid.push((format!("exact α=1 η={eta}"), MethodConfig::Exact(config)));
    }
    sweep(&splits, grid, 20, 100)
}

fn mnist(folder: &str) -> Result<()> {
    let config = DataCleaningConfig {
        data: DataSet::Idx,
        train: 50_000,
        validation: 10_000,
        ridge: 1e-4,
        intercept: false,
        precision: Precision::Single,
        ..Default::default()
    };
    let source = DataSource { folder: Some(folder.into()) };
    let splits = splits(&config, &source, &SEEDS[..1], 2)?;
    let mut grid = Vec::new();
    for eta in [5e3, 1e4, 2e4] {
        for (inner_steps, alpha) in [(10, 1.0), (20, 0.5), (40, 0.5)] {
            let config = NhgdConfig {
                inner_steps,
                batch_size: SampleCount::Drawn(1024),
                outer_batch_size: SampleCount::Drawn(1024),
                inner_step_size: StepSize::constant(alpha),
                outer_step_size: StepSize::constant(eta),
                damping: Damping::Fixed(1e-2),
                curvature_rows: CurvatureRows::Fresh,
                curvature_samples: Some(SampleCount::Drawn(256)),
                curvature: window(256),
                ..Default::default()
            };
            grid.push((format!("window 256 K={inner_steps} α={alpha} η={eta}"), MethodConfig::Nhgd(config)));
        }
    }
    sweep(&splits, grid, 60, 600)
}

fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["digits"] => digits(),
        ["mnist", folder] => mnist(folder),
        _ => Err(Error::argument("arguments", "`digits` or `mnist DIR`", format_args!("`{}`", words.join(" ")))),
    }
}
