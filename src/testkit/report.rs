//! What a suite found: named claims, each with its error and tolerance at the case where it came nearest to failing. A call that
//! fails or panics where it must not is a finding too, so that a suite always runs to its end.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Error, Result};
use crate::oracle::Check;

/// A claim and the case that tried it hardest.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What is claimed.
    pub claim: String,
    /// The largest error found, relative where the claim is about numbers; 0 or ∞ where it holds or does not.
    pub error: f64,
    /// The largest error that passes.
    pub tolerance: f64,
    /// Where that error was found.
    pub case: String,
    /// How many cases were tried.
    pub cases: usize,
    /// What else a reader should know, an error's message for one; empty mostly.
    pub note: String,
}

impl Finding {
    /// Whether the claim holds: an error that is not a number does not pass.
    pub fn passed(&self) -> bool {
        self.error <= self.tolerance
    }

    /// The error in units of what is tolerated.
    fn severity(&self) -> f64 {
        match self.error / self.tolerance {
            _ if self.error == 0.0 => 0.0,
            ratio if ratio.is_nan() => f64::INFINITY,
            ratio => ratio,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { claim, error, tolerance, case, cases, note } = self;
        let verdict = if self.passed() { "ok    " } else { "FAILED" };
        write!(f, "{verdict} {claim}")?;
        if error.is_finite() && *tolerance > 0.0 {
            write!(f, ": error {error:.1e}, tolerance {tolerance:.0e}")?;
        }
        write!(f, " ({cases} cases; hardest: {case})")?;
        if note.is_empty() { Ok(()) } else { write!(f, ": {note}") }
    }
}

/// The findings of a suite.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    subject: String,
    findings: Vec<Finding>,
}

/// How a guarded call ended.
enum Ended<T> {
    Value(T),
    Failed(Error),
    Panicked(String),
}

fn guarded<T>(call: impl FnOnce() -> Result<T>) -> Ended<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ended::Value(value),
        Ok(Err(error)) => Ended::Failed(error),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
            Ended::Panicked(format!("panicked: {}", text.unwrap_or("without a message")))
        }
    }
}

impl Report {
    /// An empty report on `subject`. Suites of your own are written with the methods below.
    pub fn new(subject: impl Into<String>) -> Self {
        Self { subject: subject.into(), findings: Vec::new() }
    }

    /// What was examined.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Every claim, in the order in which it was first tried.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The claims that do not hold.
    pub fn failures(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| !finding.passed())
    }

    /// Whether every claim holds, and there is one.
    pub fn passed(&self) -> bool {
        !self.findings.is_empty() && self.failures().next().is_none()
    }

    /// For tests: panics unless every claim holds.
    ///
    /// # Panics
    /// With a line for each claim that does not hold.
    #[track_caller]
    pub fn assert_passes(&self) {
        let failures: Vec<String> = self.failures().map(|finding| format!("\n  {finding}")).collect();
        assert!(!self.findings.is_empty(), "`{}`: no claim was tried", self.subject);
        assert!(
            failures.is_empty(),
            "`{}` fails {} of {} claims:{}",
            self.subject,
            failures.len(),
            self.findings.len(),
            failures.concat()
        );
    }

    /// Claims that the error which `measure` finds is at most `tolerance`.
    pub fn within(
        &mut self,
        claim: impl Into<String>,
        case: impl fmt::Display,
        tolerance: f64,
        measure: impl FnOnce() -> Result<f64>,
    ) {
        let (error, note) = match guarded(measure) {
            Ended::Value(error) => (error, String::new()),
            Ended::Failed(error) => (f64::INFINITY, error.to_string()),
            Ended::Panicked(text) => (f64::INFINITY, text),
        };
        self.record(Finding { claim: claim.into(), error, tolerance, case: case.to_string(), cases: 1, note });
    }

    /// Claims that `test` says yes.
    pub fn holds(&mut self, claim: impl Into<String>, case: impl fmt::Display, test: impl FnOnce() -> Result<bool>) {
        self.within(claim, case, 0.0, || Ok(if test()? { 0.0 } else { f64::INFINITY }));
    }

    /// Claims that `call` is refused with an error that names an argument or says what is not supported, and does not panic.
    pub fn refuses<T>(&mut self, claim: impl Into<String>, case: impl fmt::Display, call: impl FnOnce() -> Result<T>) {
        let (error, note) = match guarded(call) {
            Ended::Failed(Error::Unsupported { .. }) => (0.0, String::new()),
            Ended::Failed(error) if error.offending_argument().is_some() => (0.0, String::new()),
            Ended::Failed(error) => (f64::INFINITY, format!("the error names no argument: {error}")),
            Ended::Value(_) => (f64::INFINITY, "accepted".to_owned()),
            Ended::Panicked(text) => (f64::INFINITY, text),
        };
        self.record(Finding { claim: claim.into(), error, tolerance: 0.0, case: case.to_string(), cases: 1, note });
    }

    /// Takes in a check of the oracle.
    pub fn check(&mut self, case: impl fmt::Display, check: Check) {
        let Check { quantity, error, tolerance, note, .. } = check;
        self.record(Finding { claim: quantity, error, tolerance, case: case.to_string(), cases: 1, note: note.to_owned() });
    }

    /// Takes in another report's findings.
    pub fn include(&mut self, other: Report) {
        other.findings.into_iter().for_each(|finding| self.record(finding));
    }

    /// Carries out a part of a suite whose preparation may fail: then `claim` does not hold.
    pub(super) fn part(&mut self, claim: &str, case: impl fmt::Display, part: impl FnOnce(&mut Self) -> Result<()>) {
        let mut inner = Self::new(&*self.subject);
        let ended = guarded(|| part(&mut inner));
        self.include(inner);
        let note = match ended {
            Ended::Value(()) => return,
            Ended::Failed(error) => error.to_string(),
            Ended::Panicked(text) => text,
        };
        let (claim, case) = (claim.to_owned(), case.to_string());
        self.record(Finding { claim, error: f64::INFINITY, tolerance: 0.0, case, cases: 1, note });
    }

    fn record(&mut self, mut finding: Finding) {
        match self.findings.iter_mut().find(|known| known.claim == finding.claim) {
            None => self.findings.push(finding),
            Some(known) => {
                finding.cases += known.cases;
                // NaN counts as ∞: an error that was found first stays.
                if finding.severity() > known.severity() {
                    *known = finding;
                } else {
                    known.cases = finding.cases;
                }
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:", self.subject)?;
        self.findings.iter().try_for_each(|finding| writeln!(f, "  {finding}"))
    }
}

/// For a suite of a constructor's settings: every one of `attempts`, each with the name of the setting that is wrong in it, must have
/// been refused by that name.
pub fn settings<T>(subject: &str, attempts: impl IntoIterator<Item = (&'static str, Result<T>)>) -> Report {
    let mut report = Report::new(subject);
    for (setting, attempt) in attempts {
        report.holds("a bad setting is refused by its name", setting, || match attempt {
            Ok(_) => Ok(false),
            Err(error) => Ok(error.offending_argument() == Some(setting)),
        });
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_keeps_the_worst_case_of_each_claim_and_names_what_fails() {
        let mut report = Report::new("thing");
        for (case, error) in [("a", 1e-13), ("b", 5e-12), ("c", 1e-12)] {
            report.within("small", case, 1e-11, || Ok(error));
        }
        assert!(report.passed());
        assert_eq!((report.findings()[0].case.as_str(), report.findings()[0].cases), ("b", 3));
        report.within("small", "d", 1e-11, || Ok(f64::NAN));
        report.within("small", "e", 1e-11, || Ok(1.0));
        report.within("finds", "f", 1.0, || Err(Error::argument("x", 1, 2)));
        report.holds("true", "g", || Ok(true));
        report.holds("calm", "h", || panic!("boom"));
        let failed: Vec<&str> = report.failures().map(|f| f.claim.as_str()).collect();
        assert_eq!(failed, ["small", "finds", "calm"]);
        assert_eq!((report.findings()[0].case.as_str(), report.findings()[0].cases), ("d", 5));
        let message = *catch_unwind(|| report.assert_passes()).unwrap_err().downcast::<String>().unwrap();
        for part in ["`thing` fails 3 of 4 claims", "FAILED small", "hardest: d", "x: expected 1, found 2", "boom"] {
            assert!(message.contains(part), "{message}");
        }
        assert!(!Report::new("empty").passed());
    }

    #[test]
    fn a_refusal_names_an_argument_and_does_not_panic() {
        let mut report = Report::new("thing");
        report.refuses("good", "shape", || Err::<(), _>(Error::shape("x", 1, 2)));
        report.refuses("good", "unsupported", || Err::<(), _>(Error::unsupported("x", "y")));
        assert!(report.passed());
        report.refuses("accepts", "", || Ok(()));
        report.refuses("nameless", "", || Err::<(), _>(Error::Numerical { operation: "x", reason: "y".into() }));
        report.refuses("panics", "", || -> Result<()> { panic!("out of range") });
        assert_eq!(report.failures().count(), 3);
        let attempts = [("a", Err(Error::argument("a", 1, 2))), ("b", Err(Error::argument("a", 1, 2))), ("c", Ok(()))];
        assert_eq!(settings("thing", attempts).failures().count(), 1);
    }
}
