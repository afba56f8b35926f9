//! The worked example of a problem of one's own: it runs, and its problem passes the conformance suite as one that has values, gradients and
//! scores alone.

use nhgd::rng::Key;
use nhgd::testkit::{self, ProblemClaims};

#[path = "../examples/own_problem.rs"]
mod own_problem;

#[test]
fn the_example_s_problem_conforms_with_default_second_derivatives() {
    let problem = own_problem::draw(Key::new(3)).unwrap();
    // Central differences of gradients.
    let report = testkit::problem(&problem, ProblemClaims { derivatives: 1e-6, ..Default::default() }, Key::new(4));
    println!("{report}");
    report.assert_passes();
    let noted = report.findings().iter().filter(|finding| finding.note.contains("default in use")).count();
    assert_eq!(noted, 3, "Hessian product and both cross products");
    // With exact second derivatives claimed, it does not conform: the suite looks.
    assert!(!testkit::problem(&problem, ProblemClaims::default(), Key::new(4)).passed());
}

#[test]
fn the_example_runs() {
    own_problem::main().unwrap();
}
