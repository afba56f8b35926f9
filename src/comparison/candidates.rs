//! The settings that are tried of a method on a problem: the values of a grid, all combinations or as many as are allowed drawn from them.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::{Table, Value};

use super::config::{MethodEntry, ProblemEntry};
use crate::bilevel::MethodConfig;
use crate::error::{Error, Result};
use crate::rng::Key;

/// Values to try, by setting.
pub type Grid = BTreeMap<String, Vec<Value>>;

/// A method with settings to try.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// It.
    pub method: MethodConfig,
    /// What of it was set, for reading.
    pub settings: String,
    /// The settings that it has of those that were offered.
    pub(super) used: Vec<String>,
}

/// At most `most` candidates, in the order of the grid.
pub(super) fn candidates(problem: &ProblemEntry, method: &MethodEntry, most: usize, key: Key) -> Result<Vec<Candidate>> {
    let own = method.on.get(&problem.label);
    let mut base = Settings::of(&method.method)?;
    let mut used = base.offer(&problem.settings)?;
    if let Some(own) = own {
        base.demand(&own.settings)?;
    }
    // What is closer to the method goes before what is offered to all.
    let mut grid: Vec<(String, Vec<Value>, bool)> = Vec::new();
    let layers = [(Some(&problem.grid), false), (Some(&method.grid), true), (own.map(|own| &own.grid), true)];
    for (layer, demanded) in layers.into_iter().filter_map(|(grid, demanded)| grid.map(|grid| (grid, demanded))) {
        for (name, values) in layer {
            if values.is_empty() {
                return Err(Error::argument("grid", "at least one value for each setting", format_args!("none for `{name}`")));
            }
            match grid.iter_mut().find(|(known, ..)| known == name) {
                Some(known) => *known = (name.clone(), values.clone(), demanded),
                None => grid.push((name.clone(), values.clone(), demanded)),
            }
        }
    }
    let mut tried = Vec::new();
    for (name, values, demanded) in grid {
        if base.has(&name, &values[0]) {
            used.push(name.clone());
            tried.push((name, values));
        } else if demanded {
            base.set(&name, &values[0])?;
        }
    }
    let total = tried.iter().try_fold(1_usize, |total, (_, values)| total.checked_mul(values.len()));
    let total = total.ok_or_else(|| Error::argument("grid", "a number of combinations that can be counted", "more"))?;
    let numbers = if total <= most {
        (0..total).collect()
    } else if total <= 1 << 20 {
        let mut drawn = key.stream().permutation(total);
        drawn.truncate(most);
        drawn.sort_unstable();
        drawn
    } else {
        return Err(Error::argument("grid", "at most 2^20 combinations", total));
    };
    let combination = |number: usize| {
        let (mut settings, mut rest, mut words) = (base.clone(), number, Vec::new());
        for (name, values) in &tried {
            let value = &values[rest % values.len()];
            rest /= values.len();
            settings.set(name, value)?;
            words.push(format!("{name} = {value}"));
        }
        Ok(Candidate { method: settings.method()?, settings: words.join(", "), used: used.clone() })
    };
    numbers.into_iter().map(combination).collect()
}

/// A method's settings as a table that can be changed.
#[derive(Debug, Clone)]
struct Settings(Value);

impl Settings {
    fn of(method: &MethodConfig) -> Result<Self> {
        let value = Value::try_from(method);
        Ok(Self(value.map_err(|e| Error::Numerical { operation: "writing TOML", reason: e.to_string() })?))
    }

    fn method(&self) -> Result<MethodConfig> {
        MethodConfig::deserialize(self.0.clone()).map_err(|e| self.refused(&e))
    }

    fn refused(&self, error: &toml::de::Error) -> Error {
        let name = self.0.as_table().and_then(|table| table.keys().next()).map_or("", String::as_str);
        Error::argument(
            "method",
            format_args!("settings of `{name}`"),
            error.message().split_whitespace().collect::<Vec<_>>().join(" "),
        )
    }

    /// Sets what the method has, and names it.
    fn offer(&mut self, settings: &BTreeMap<String, Value>) -> Result<Vec<String>> {
        let mut used = Vec::new();
        for (name, value) in settings {
            if self.has(name, value) {
                self.set(name, value)?;
                used.push(name.clone());
            }
        }
        Ok(used)
    }

    fn demand(&mut self, settings: &BTreeMap<String, Value>) -> Result<()> {
        settings.iter().try_for_each(|(name, value)| self.set(name, value))
    }

    /// Whether the method has a setting of this name that takes the value.
    fn has(&self, name: &str, value: &Value) -> bool {
        self.clone().set(name, value).is_ok()
    }

    /// Sets a value; `a.b` is `b` in the table `a`. A number in the place of a step size that decays is its first one: the exponent stays.
    fn set(&mut self, name: &str, value: &Value) -> Result<()> {
        let unknown = || Error::argument("grid", "a setting of the method", format_args!("`{name}`"));
        let mut place =
            self.0.as_table_mut().and_then(|table| table.iter_mut().next()).map(|(_, settings)| settings).ok_or_else(unknown)?;
        let (path, last) = name.rsplit_once('.').unwrap_or(("", name));
        for part in path.split('.').filter(|part| !part.is_empty()) {
            place = place.get_mut(part).ok_or_else(unknown)?;
        }
        let table = place.as_table_mut().ok_or_else(unknown)?;
        let decays = |table: &Table| table.get(last).and_then(Value::as_table).is_some_and(|step| step.contains_key("initial"));
        if decays(table) && !value.is_table() {
            let step = table.get_mut(last).and_then(Value::as_table_mut).ok_or_else(unknown)?;
            step.insert("initial".to_owned(), value.clone());
        } else {
            table.insert(last.to_owned(), value.clone());
        }
        self.method().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::config::Config;
    use std::path::Path;

    fn config(extra: &str) -> Result<Config> {
        let text = format!(
            "title = \"t\"\nseeds = [1]\nbudget.outer_steps = 5\ntuning.candidates = 4\n\
             [[problems]]\nlabel = \"p\"\nproblem.quadratic = {{}}\nsettings.batch_size = 9\n\
             grid.inner_step_size = [0.1, 0.2, 0.4]\ngrid.outer_step_size = [1, 2]\n\
             [[methods]]\nlabel = \"m\"\nmethod.exact.outer_step_size = {{ initial = 1.0, power = 0.5, offset = 3.0 }}\n{extra}"
        );
        Config::parse(&text, Path::new("c.toml"))
    }

    fn tried(config: &Config) -> Vec<Candidate> {
        config.candidates(&config.problems[0], &config.methods[0]).unwrap()
    }

    #[test]
    fn candidates_are_drawn_from_the_grid_without_repetition_and_keep_exponents() {
        let all = tried(&config("").unwrap());
        assert_eq!(all.len(), 4, "as many as allowed of six");
        assert!((1..4).all(|i| !all[..i].contains(&all[i])));
        for candidate in &all {
            let MethodConfig::Exact(exact) = &candidate.method else { panic!() };
            assert_eq!((exact.outer_step_size.power, exact.outer_step_size.offset), (0.5, 3.0));
            assert_eq!(exact.batch_size, crate::bilevel::SampleCount::Drawn(9));
            assert!(
                candidate.settings.contains(&format!("outer_step_size = {}", exact.outer_step_size.initial)),
                "{}",
                candidate.settings
            );
        }
        assert_eq!(tried(&config("").unwrap()), all, "the same every time");
    }

    #[test]
    fn what_is_closer_to_the_method_counts_and_what_it_has_not_is_refused() {
        let own = tried(
            &config("grid.inner_step_size = [0.7]\non.p.grid.outer_step_size = [3.0]\non.p.settings.inner_steps = 2\n").unwrap(),
        );
        let [Candidate { method: MethodConfig::Exact(exact), .. }] = &own[..] else { panic!("{own:?}") };
        assert_eq!((exact.inner_step_size.initial, exact.outer_step_size.initial, exact.inner_steps), (0.7, 3.0, 2));
        for (extra, words) in [
            ("grid.sketch_size = [1]\n", "sketch_size"),
            ("on.p.settings.outer_steps = 1\n", "outer_steps"),
            ("on.q.settings.inner_steps = 1\n", "`q`"),
            ("grid.inner_steps = [0]\n", "inner_steps"),
            ("grid.inner_steps = []\n", "inner_steps"),
        ] {
            let error = config(extra).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("c.toml:"), "{extra}: {error}");
        }
    }

    #[test]
    fn a_setting_that_no_method_has_is_a_mistake() {
        let text = "title = \"t\"\nseeds = [1]\nbudget.outer_steps = 5\n[[problems]]\nlabel = \"p\"\nproblem.quadratic = {}\n\
                    grid.linear_stepz = [1]\n[[methods]]\nlabel = \"m\"\nmethod.exact = {}\n";
        let error = Config::parse(text, Path::new("c.toml")).unwrap_err().to_string();
        assert!(error.contains("linear_stepz"), "{error}");
    }
}
