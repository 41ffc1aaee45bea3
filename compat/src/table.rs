//! What was tried, by whom, and how it went: printed as one table of clients and scenarios.

/// The rows gathered so far.
#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
}

struct Row {
    client: String,
    scenario: String,
    result: Result<String, String>,
}

impl Table {
    /// Runs one scenario of one client and keeps its result: a word on success, the reason of a failure.
    pub fn case(&mut self, client: &str, scenario: &str, run: impl FnOnce() -> Result<String, String>) {
        let result = run();
        let (mark, word) = match &result {
            Ok(word) => ("ok", word),
            Err(reason) => ("FAILED", reason),
        };
        println!("{mark:>6}  {client}: {scenario}{}{word}", if word.is_empty() { "" } else { ": " });
        self.rows.push(Row { client: client.to_owned(), scenario: scenario.to_owned(), result });
    }

    /// True when any scenario failed.
    pub fn failed(&self) -> bool {
        self.rows.iter().any(|row| row.result.is_err())
    }

    /// Prints clients against scenarios, then the reasons of what failed, then the counts.
    pub fn print(&self) {
        let mut clients: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !clients.contains(&row.client.as_str()) {
                clients.push(&row.client);
            }
        }
        println!();
        for client in clients {
            println!("{client}");
            for row in self.rows.iter().filter(|row| row.client == client) {
                println!("  {:<7} {}", if row.result.is_ok() { "ok" } else { "FAILED" }, row.scenario);
            }
        }
        for row in &self.rows {
            if let Err(reason) = &row.result {
                println!("\n{}: {}: {reason}", row.client, row.scenario);
            }
        }
        let failed = self.rows.iter().filter(|row| row.result.is_err()).count();
        println!("\n{} passed, {failed} failed", self.rows.len() - failed);
    }
}
