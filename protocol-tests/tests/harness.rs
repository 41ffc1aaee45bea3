//! What the suite says of itself.

use std::process::Command;

#[test]
fn a_test_that_cannot_run_against_a_target_says_so_past_the_harness() {
    let name = "malformed::declared_counts_cost_no_memory";
    let own = std::env::current_exe().expect("this executable");
    // Nobody is asked: the test sees TARGET first.
    let run = Command::new(own)
        .args(["--exact", name, "--test-threads=2"])
        .env("TARGET", "127.0.0.1:1")
        .output()
        .expect("it runs");
    let (said, told) = (String::from_utf8_lossy(&run.stderr), String::from_utf8_lossy(&run.stdout));
    assert!(run.status.success() && told.contains("1 passed"), "{told}{said}");
    assert!(said.contains(&format!("skipped (1 so far): {name}: it needs a broker of its own with [], ")), "{said}");
}
