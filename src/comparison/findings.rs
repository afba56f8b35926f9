//! What a comparison's runs say: the tables, the best settings as configurations, and which pictures they make.

use std::collections::BTreeMap;

use super::config::{Config, ProblemEntry};
use super::profile::{self, CONVERGENCE, COSTS, TOLERANCE};
use super::record::{CANDIDATES, CURVES, PROFILE, PROGRESS, RUNS, SUMMARY, TARGETS};
use super::runner::{Compared, Tuned, best_point};
use super::trial::{Point, Trial};
use crate::error::Result;
use crate::experiment::config::{Config as Experiment, Run};
use crate::experiment::record::{Table, cell};
use crate::laboratory::picture::{Axis, Band, Center, Drawing, Layer, Panel, Picture};
use crate::problem::OracleCounts;

/// Places of a curve of progress.
const PLACES: usize = 60;

type Concluded = (BTreeMap<String, Table>, BTreeMap<String, String>, Vec<Picture>);

/// Everything that follows from the runs.
pub(super) fn conclude(config: &Config, problems: &[Compared<'_>]) -> Result<Concluded> {
    let metrics = metrics(problems);
    let targets = targets(problems)?;
    let methods: Vec<&str> = config.methods.iter().map(|method| method.label.as_str()).collect();
    let profile = profile::table(&methods, &targets, |_, seed| config.seeds.iter().any(|shared| shared.to_string() == seed))?;
    let tables = [
        (CANDIDATES, candidates(problems)?),
        (RUNS, runs(problems, &metrics)?),
        (CURVES, curves(problems, &metrics)?),
        (SUMMARY, summary(problems)?),
        (PROGRESS, progress(problems)?),
        (PROFILE, profile),
        (TARGETS, targets),
    ];
    let tables = tables.map(|(stem, table)| (stem.to_owned(), table)).into();
    Ok((tables, best(config, problems)?, pictures(problems)))
}

/// The values of any problem, each once.
fn metrics(problems: &[Compared<'_>]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for name in problems.iter().flat_map(|problem| &problem.names) {
        if !all.contains(name) {
            all.push(name.clone());
        }
    }
    all
}

/// The values of a point under the columns of all problems.
fn spread(names: &[String], values: &[f64], metrics: &[String]) -> Vec<String> {
    let of = |metric: &String| names.iter().position(|name| name == metric).and_then(|i| values.get(i));
    metrics.iter().map(|metric| of(metric).map_or(String::new(), |value| cell(*value))).collect()
}

fn costs(point: &Point) -> [String; 3] {
    [point.step.to_string(), format!("{:.6}", point.seconds), point.counts.gradient_equivalents().to_string()]
}

fn candidates(problems: &[Compared<'_>]) -> Result<Table> {
    let columns =
        ["problem", "method", "candidate", "settings", "score", "share", "step", "seconds", "gradient_equivalents", "outcome"];
    let mut table = Table::new(columns);
    for problem in problems {
        for Tuned { entry, candidates, chosen, .. } in &problem.methods {
            for (index, (candidate, trial)) in candidates.iter().enumerate() {
                let is_chosen = chosen.is_some_and(|chosen| chosen.index == index);
                let outcome = trial.failure.as_deref().unwrap_or(if is_chosen { "chosen" } else { "done" });
                let found = match best_point(trial) {
                    Some((_, point)) => {
                        [cell(point.values[0]), format!("{:.4}", point.share)].into_iter().chain(costs(point)).collect()
                    }
                    None => vec![String::new(); 5],
                };
                let head = [problem.entry.label.clone(), entry.label.clone(), index.to_string(), candidate.settings.clone()];
                table.push(head.into_iter().chain(found).chain([outcome.to_owned()]))?;
            }
        }
    }
    Ok(table)
}

/// All runs of a problem that have points: method, seed, settings, outcome.
fn all_runs<'a>(problem: &'a Compared<'_>) -> impl Iterator<Item = (&'a str, u64, &'a str, &'a Trial)> {
    problem.methods.iter().flat_map(|method| {
        let settings = method.chosen.map_or("", |chosen| method.candidates[chosen.index].0.settings.as_str());
        method.runs.iter().map(move |(seed, trial)| (method.entry.label.as_str(), *seed, settings, trial))
    })
}

fn runs(problems: &[Compared<'_>], metrics: &[String]) -> Result<Table> {
    let head = ["problem", "method", "seed", "settings", "outcome", "step", "seconds", "gradient_equivalents"];
    let mut table = Table::new(head.into_iter().chain(OracleCounts::NAMES).chain(metrics.iter().map(String::as_str)));
    for problem in problems {
        let label = problem.entry.label.as_str();
        let baselines = problem.baselines.iter().map(|(name, seed, trial)| (name.as_str(), *seed, "", trial));
        for (index, (method, seed, settings, trial)) in baselines.chain(all_runs(problem)).enumerate() {
            let done = if index < problem.baselines.len() { "baseline" } else { "done" };
            let outcome = trial.failure.as_deref().unwrap_or(done);
            let head = [label, method, &seed.to_string(), settings, outcome].map(str::to_owned);
            let rest = match trial.points.last() {
                Some(last) => {
                    let counts = last.counts.values().map(|count| count.to_string());
                    costs(last).into_iter().chain(counts).chain(spread(&problem.names, &last.values, metrics)).collect()
                }
                // One that did not even start.
                None => nothing(metrics),
            };
            table.push(head.into_iter().chain(rest))?;
        }
        for Tuned { entry, candidates, .. } in problem.methods.iter().filter(|method| method.chosen.is_none()) {
            let reason = candidates.iter().find_map(|(_, trial)| trial.failure.as_deref()).unwrap_or("no candidates");
            let outcome = format!("no candidate came to its end; the first: {reason}");
            table.push([label, &entry.label, "", "", &outcome].map(str::to_owned).into_iter().chain(nothing(metrics)))?;
        }
    }
    Ok(table)
}

/// The cells of costs, counts and metrics where there are none.
fn nothing(metrics: &[String]) -> Vec<String> {
    vec![String::new(); 3 + OracleCounts::NAMES.len() + metrics.len()]
}

fn curves(problems: &[Compared<'_>], metrics: &[String]) -> Result<Table> {
    let head = ["problem", "method", "seed", "step", "seconds", "gradient_equivalents", "score"];
    let mut table = Table::new(head.into_iter().chain(metrics.iter().map(String::as_str)));
    for problem in problems {
        for (method, seed, _, trial) in all_runs(problem) {
            for point in &trial.points {
                let head = [problem.entry.label.clone(), method.to_owned(), seed.to_string()];
                let score = [cell(score(problem, point))];
                table.push(head.into_iter().chain(costs(point)).chain(score).chain(spread(
                    &problem.names,
                    &point.values,
                    metrics,
                )))?;
            }
        }
    }
    Ok(table)
}

fn score(problem: &Compared<'_>, point: &Point) -> f64 {
    value(problem, point, &problem.entry.score)
}

fn value(problem: &Compared<'_>, point: &Point, name: &str) -> f64 {
    problem.names.iter().position(|known| known == name).and_then(|i| point.values.get(i)).copied().unwrap_or(f64::NAN)
}

/// Whether a value that is better the larger it is.
fn is_gain(metric: &str) -> bool {
    metric.contains("accuracy")
}

fn targets(problems: &[Compared<'_>]) -> Result<Table> {
    let mut table =
        Table::new(["problem", "method", "seed", "target", "value", "reached", "step", "seconds", "gradient_equivalents"]);
    for problem in problems {
        for (method, seed, _, trial) in all_runs(problem) {
            let mut push = |target: &str, value: f64, point: Option<&Point>| {
                let reached = if point.is_some() { "yes" } else { "no" };
                let never = || ["inf", "inf", "inf"].map(str::to_owned);
                let head = [&problem.entry.label, method, &seed.to_string(), target, &cell(value), reached].map(str::to_owned);
                table.push(head.into_iter().chain(point.map_or_else(never, costs)))
            };
            if let Some(level) = convergence_level(problem, seed) {
                push(CONVERGENCE, level, trial.points.iter().find(|point| score(problem, point) <= level))?;
            }
            for (name, &level) in &problem.entry.targets {
                let holds = |point: &&Point| {
                    let value = value(problem, point, name);
                    if is_gain(name) { value >= level } else { value <= level }
                };
                push(name, level, trial.points.iter().find(holds))?;
            }
        }
    }
    Ok(table)
}

/// The score that passes the convergence test with a seed.
fn convergence_level(problem: &Compared<'_>, seed: u64) -> Option<f64> {
    let own = || all_runs(problem).filter(move |(_, own, ..)| *own == seed).flat_map(|(.., trial)| &trial.points);
    let scores = || own().map(|point| score(problem, point)).filter(|score| score.is_finite());
    let first = own().find(|point| point.step == 0).map(|point| score(problem, point))?;
    let best = scores().min_by(f64::total_cmp)?;
    Some(best + TOLERANCE * (first - best))
}

fn summary(problems: &[Compared<'_>]) -> Result<Table> {
    let mut table = Table::new(["problem", "method", "metric", "runs", "mean", "deviation", "median", "low", "high"]);
    for problem in problems {
        let mut methods: Vec<&str> = Vec::new();
        let baselines = problem.baselines.iter().map(|(name, _, trial)| (name.as_str(), trial));
        let all: Vec<(&str, &Trial)> = baselines.chain(all_runs(problem).map(|(method, _, _, trial)| (method, trial))).collect();
        for (method, _) in &all {
            if !methods.contains(method) {
                methods.push(method);
            }
        }
        for method in methods {
            let last: Vec<&Point> =
                all.iter().filter(|(own, _)| *own == method).filter_map(|(_, trial)| trial.points.last()).collect();
            let costs = [
                ("seconds".to_owned(), last.iter().map(|point| point.seconds).collect::<Vec<f64>>()),
                ("gradient_equivalents".to_owned(), last.iter().map(|point| point.counts.gradient_equivalents() as f64).collect()),
            ];
            let of = |name: &String| (name.clone(), last.iter().map(|point| value(problem, point, name)).collect());
            for (metric, values) in problem.names.iter().map(of).chain(costs) {
                let finite: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
                if finite.is_empty() {
                    continue;
                }
                let head = [&problem.entry.label, method, &metric, &finite.len().to_string()].map(str::to_owned);
                table.push(head.into_iter().chain(statistics(&finite).map(cell)))?;
            }
        }
    }
    Ok(table)
}

/// Mean, standard deviation (NaN for one value), median, least and largest.
fn statistics(values: &[f64]) -> [f64; 5] {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let deviation = (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    let range = |f: fn(f64, f64) -> f64| values.iter().copied().reduce(f).unwrap_or(f64::NAN);
    [mean, deviation, median(values), range(f64::min), range(f64::max)]
}

/// The median; the mean of the two in the middle for an even number, NaN of none.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |i: usize| sorted.get(i).copied().unwrap_or(f64::NAN);
    0.5 * (at(sorted.len().saturating_sub(1) / 2) + at(sorted.len() / 2))
}

fn progress(problems: &[Compared<'_>]) -> Result<Table> {
    let mut table = Table::new(["problem", "method", "cost", "at", "score", "low", "high"]);
    for problem in problems {
        for (index, cost) in COSTS.into_iter().enumerate() {
            for method in &problem.methods {
                let spent = |point: &Point| [point.seconds, point.counts.gradient_equivalents() as f64][index];
                let curves: Vec<Vec<(f64, f64)>> = (method.runs.iter())
                    .map(|(_, trial)| trial.points.iter().map(|point| (spent(point), score(problem, point))).collect())
                    .collect();
                for (at, reached) in places(&curves) {
                    let [_, _, median, low, high] = statistics(&reached);
                    let head = [problem.entry.label.clone(), method.entry.label.clone(), cost.to_owned()];
                    table.push(head.into_iter().chain([at, median, low, high].map(cell)))?;
                }
            }
        }
    }
    Ok(table)
}

/// Costs at equal ratios, from the first at which every run has been looked at to the last at which all of them went on; and what each had
/// reached there.
fn places(curves: &[Vec<(f64, f64)>]) -> Vec<(f64, Vec<f64>)> {
    let first = curves.iter().filter_map(|curve| curve.get(1)).map(|(cost, _)| *cost).fold(0.0, f64::max);
    let last = curves.iter().filter_map(|curve| curve.last()).map(|(cost, _)| *cost).fold(f64::INFINITY, f64::min);
    if !(first > 0.0 && last >= first && last.is_finite()) {
        return Vec::new();
    }
    let places = if last > first { PLACES } else { 1 };
    let at = |i: usize| match i + 1 == places {
        true => last,
        false => first * (last / first).powf(i as f64 / (places - 1) as f64),
    };
    let reached = |at: f64| -> Vec<f64> {
        let up_to = |curve: &Vec<(f64, f64)>| curve.iter().rev().find(|(cost, _)| *cost <= at).map(|(_, score)| *score);
        curves.iter().filter_map(up_to).collect()
    };
    (0..places).map(at).map(|at| (at, reached(at))).collect()
}

/// For each problem and method what was chosen, as a configuration that `run` takes.
fn best(config: &Config, problems: &[Compared<'_>]) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for problem in problems {
        for method in &problem.methods {
            let (Some(chosen), Some((_, trial))) = (method.chosen, method.runs.first()) else { continue };
            let outer_steps = trial.points.last().map_or(1, |point| point.step).max(1);
            let experiment = experiment(
                config,
                problem.entry,
                Run { label: method.entry.label.clone(), outer_steps, method: method.candidates[chosen.index].0.method.clone() },
            );
            files.insert(format!("best-{}-{}.toml", problem.entry.label, method.entry.label), experiment.to_toml()?);
        }
    }
    Ok(files)
}

fn experiment(config: &Config, problem: &ProblemEntry, run: Run) -> Experiment {
    Experiment {
        title: format!("{} on {}", run.label, problem.label),
        seeds: config.seeds.clone(),
        record_every: (run.outer_steps / config.points).max(1),
        baselines: config.baselines,
        checks: false,
        problem: problem.problem.clone(),
        runs: vec![run],
        hypergradient_errors: None,
    }
}

fn pictures(problems: &[Compared<'_>]) -> Vec<Picture> {
    let labels = ["time (s)", "oracle calls (gradients)"];
    let curves = |problem: &Compared<'_>| {
        let label = &problem.entry.label;
        let panel = |(cost, axis): (&str, &str)| {
            let layer =
                Layer::new(PROGRESS, "at", "score").only("problem", label).only("cost", cost).by("method").named("{method}");
            let layer = layer.center(Center::Mean).band(Band::Columns("low".into(), "high".into()));
            Panel { title: String::new(), x: Axis::log(axis), layers: vec![layer], verticals: Vec::new() }
        };
        Picture {
            file: format!("curves-{label}"),
            title: format!("{label}: {} of every method", problem.entry.score),
            caption: format!(
                "{} against time and against oracle calls, each method with the settings that tuning chose (evaluation is not in the time; a call is a gradient of one sample or what costs as much): median over seeds, shaded from least \
                 to largest.",
                problem.entry.score
            ),
            drawing: Drawing::Curves {
                y: Axis::log(format!("{} (log scale)", problem.entry.score)),
                panels: COSTS.into_iter().zip(labels).map(panel).collect(),
            },
        }
    };
    problems.iter().map(curves).chain([profile::picture()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::runner::Chosen;
    use std::path::Path;

    #[test]
    fn a_reported_run_that_did_not_start_is_a_row_with_its_reason() {
        let text = "title = \"t\"\nseeds = [1]\nbudget.outer_steps = 5\n[[problems]]\nlabel = \"p\"\nproblem.quadratic = {}\n\
                    [[methods]]\nlabel = \"m\"\nmethod.exact = {}\n";
        let config = Config::parse(text, Path::new("c.toml")).unwrap();
        let candidate = config.candidates(&config.problems[0], &config.methods[0]).unwrap().remove(0);
        let failed = || Trial { points: Vec::new(), failure: Some("no room".into()) };
        let tuned = Tuned {
            entry: &config.methods[0],
            candidates: vec![(candidate, failed())],
            chosen: Some(Chosen { index: 0, budget: config.budget }),
            runs: vec![(1, failed())],
        };
        let names = vec!["f_outer".to_owned()];
        let problem = Compared { entry: &config.problems[0], names, methods: vec![tuned], baselines: Vec::new() };
        let (tables, best, _) = conclude(&config, &[problem]).unwrap();
        let runs = &tables[RUNS];
        assert_eq!((runs.text("seed").unwrap(), runs.text("outcome").unwrap()), (vec!["1"], vec!["no room"]));
        assert_eq!((runs.text("seconds").unwrap(), runs.text("f_outer").unwrap()), (vec![""], vec![""]));
        assert_eq!(tables[CANDIDATES].text("outcome").unwrap(), ["no room"]);
        assert!(tables[TARGETS].rows().iter().all(|row| row.contains(&"no".to_owned())) && best.len() == 1);
    }
}
