//! The table: every figure, what it may be at most, and whether it is.

use std::collections::BTreeMap;

use crate::broker::Kind;
use crate::cases::{Figure, figure};

/// What a figure must not exceed, and what is aimed for.
#[derive(Clone, Copy)]
struct Bound {
    most: f64,
    goal: Option<f64>,
}

/// One line of the table.
struct Line {
    figure: &'static str,
    over_kafka: Option<Bound>,
    over_null: Option<Bound>,
    absolute: Option<Bound>,
}

impl Line {
    const fn new(figure: &'static str) -> Self {
        Self { figure, over_kafka: None, over_null: None, absolute: None }
    }

    const fn kafka(self, most: f64, goal: Option<f64>) -> Self {
        Self { over_kafka: Some(Bound { most, goal }), ..self }
    }

    const fn null(self, most: f64, goal: Option<f64>) -> Self {
        Self { over_null: Some(Bound { most, goal }), ..self }
    }

    const fn absolute(self, most: f64, goal: Option<f64>) -> Self {
        Self { absolute: Some(Bound { most, goal }), ..self }
    }
}

const LINES: &[Line] = &[
    Line::new(figure::START).absolute(200.0, Some(60.0)),
    Line::new(figure::START_CPU).absolute(0.1, None),
    Line::new(figure::IDLE_CPU).absolute(0.2, Some(0.1)),
    Line::new(figure::IDLE_MEMORY).absolute(40.0, Some(20.0)),
    Line::new(figure::TAIL_CPU).kafka(0.45, Some(0.3)).null(4.0, Some(2.5)),
    Line::new(figure::TAIL_MEMORY).kafka(0.35, None),
    Line::new(figure::TAIL_SECONDS),
    Line::new(figure::LZ4_CPU).kafka(0.25, Some(0.15)),
    Line::new(figure::ZSTD_CPU).kafka(0.15, Some(0.08)),
    Line::new(figure::UNBATCHED_CPU).kafka(0.4, Some(0.2)),
    Line::new(figure::UNBATCHED_P99),
    Line::new(figure::PIPELINED_CPU).kafka(0.15, Some(0.08)),
    Line::new(figure::PACED_CPU).kafka(0.25, Some(0.12)),
    Line::new(figure::PACED_P99).kafka(1.0, Some(0.6)),
    Line::new(figure::DISK).absolute(1.2, Some(1.1)),
    Line::new(figure::DISK_RATE),
    // One part in eighty of the load: with more of it the line above says nothing.
    Line::new(figure::DISK_BACKGROUND).absolute(256.0, None),
];

/// The figures of all rounds.
pub struct Rounds {
    kinds: Vec<(Kind, BTreeMap<&'static str, Vec<f64>>)>,
}

impl Rounds {
    /// No round yet.
    pub fn new(kinds: &[Kind]) -> Self {
        Self { kinds: kinds.iter().map(|kind| (*kind, BTreeMap::new())).collect() }
    }

    /// One more round of one broker.
    pub fn add(&mut self, kind: Kind, figures: Vec<Figure>) {
        let (_, rounds) = self.kinds.iter_mut().find(|(k, _)| *k == kind).expect("every kind has its rounds");
        for (name, value) in figures {
            rounds.entry(name).or_default().push(value);
        }
    }

    fn of(&self, kind: Kind, name: &str) -> &[f64] {
        let (_, rounds) = self.kinds.iter().find(|(k, _)| *k == kind).expect("every kind has its rounds");
        rounds.get(name).map_or(&[], Vec::as_slice)
    }

    /// The ratios of rounds that ran back to back; empty when one side was not measured, or measured as nothing.
    fn ratios(&self, other: Kind, name: &str) -> Vec<f64> {
        if !self.kinds.iter().any(|(kind, _)| *kind == other) {
            return Vec::new();
        }
        let pairs = self.of(Kind::Ottla, name).iter().zip(self.of(other, name));
        let ratios: Vec<f64> = pairs.map(|(ours, theirs)| ours / theirs).collect();
        if ratios.iter().all(|ratio| ratio.is_finite()) { ratios } else { Vec::new() }
    }

    /// The table, a line for each figure that was measured.
    pub fn table(&self) -> String {
        let others: Vec<Kind> = self.kinds.iter().map(|(kind, _)| *kind).filter(|kind| *kind != Kind::Ottla).collect();
        let mut heads = vec!["figure".to_owned(), "Ottla".to_owned()];
        heads.extend(others.iter().map(|kind| word(*kind).to_owned()));
        heads.extend(others.iter().map(|kind| format!("Ottla ÷ {}", word(*kind))));
        heads.extend(["at most".to_owned(), "verdict".to_owned(), "rounds".to_owned()]);
        let mut out = format!("| {} |\n|{}\n", heads.join(" | "), "---|".repeat(heads.len()));
        for line in LINES {
            let ours = self.of(Kind::Ottla, line.figure);
            if ours.is_empty() {
                continue;
            }
            let (bounds, verdict) = self.judged(line);
            let mut cells = vec![line.figure.to_owned(), spread(ours)];
            cells.extend(others.iter().map(|kind| spread(self.of(*kind, line.figure))));
            cells.extend(others.iter().map(|kind| spread(&self.ratios(*kind, line.figure))));
            cells.extend([bounds, verdict.to_owned(), ours.len().to_string()]);
            out.push_str(&format!("| {} |\n", cells.join(" | ")));
        }
        out
    }

    /// What a line may be at most, in words, and the verdict.
    fn judged(&self, line: &Line) -> (String, &'static str) {
        let bounds = [
            (line.over_kafka, median(&self.ratios(Kind::Kafka, line.figure)), "× Kafka"),
            (line.over_null, median(&self.ratios(Kind::Null, line.figure)), "× null"),
            (line.absolute, median(self.of(Kind::Ottla, line.figure)), ""),
        ];
        let bounds: Vec<_> = bounds.into_iter().filter_map(|(bound, value, of)| Some((bound?, value, of))).collect();
        let say = |(bound, _, of): &(Bound, Option<f64>, &str)| {
            let goal = bound.goal.map_or_else(String::new, |goal| format!(" (goal {goal})"));
            format!("{}{of}{goal}", bound.most)
        };
        let words: Vec<String> = bounds.iter().map(say).collect();
        let values: Vec<(Bound, Option<f64>)> = bounds.iter().map(|(bound, value, _)| (*bound, *value)).collect();
        (if words.is_empty() { "–".to_owned() } else { words.join(", ") }, verdict(&values))
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Ottla => "Ottla",
        Kind::Before => "before",
        Kind::Kafka => "Kafka",
        Kind::Null => "null",
    }
}

/// Whether the medians keep their bounds. What was not measured is never passed.
fn verdict(values: &[(Bound, Option<f64>)]) -> &'static str {
    let measured: Vec<(Bound, f64)> = values.iter().filter_map(|(bound, value)| Some((*bound, (*value)?))).collect();
    if values.is_empty() {
        "–"
    } else if measured.is_empty() {
        "not judged"
    } else if measured.iter().any(|(bound, value)| *value > bound.most) {
        "short"
    } else if measured.len() < values.len() {
        "pass in part"
    } else if measured.iter().all(|(bound, value)| bound.goal.is_some_and(|goal| *value <= goal)) {
        "pass, goal too"
    } else {
        "pass"
    }
}

/// The middle value, or the mean of the two in the middle.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len() % 2 == 1 { upper } else { f64::midpoint(sorted[middle - 1], upper) })
}

/// Median, least and largest.
fn spread(values: &[f64]) -> String {
    let least = values.iter().copied().min_by(f64::total_cmp);
    let largest = values.iter().copied().max_by(f64::total_cmp);
    match (median(values), least, largest) {
        (Some(median), Some(least), Some(largest)) if values.len() > 1 => {
            format!("{} ({}–{})", number(median), number(least), number(largest))
        }
        (Some(median), ..) => number(median),
        _ => "–".to_owned(),
    }
}

/// Three digits, more or less.
fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(kinds: &[(Kind, &[f64])], name: &'static str) -> Rounds {
        let mut rounds = Rounds::new(&kinds.iter().map(|(kind, _)| *kind).collect::<Vec<_>>());
        for (kind, values) in kinds {
            for value in *values {
                rounds.add(*kind, vec![(name, *value)]);
            }
        }
        rounds
    }

    fn row(rounds: &Rounds) -> String {
        rounds.table().lines().nth(2).unwrap_or_default().to_owned()
    }

    #[test]
    fn a_line_shows_the_median_of_the_ratios_of_its_rounds_and_the_verdict() {
        let pairs: &[(Kind, &[f64])] = &[(Kind::Ottla, &[1.0, 2.0, 6.0]), (Kind::Kafka, &[10.0, 10.0, 10.0])];
        assert_eq!(
            row(&rounds(pairs, figure::PACED_CPU)),
            format!(
                "| {} | 2.00 (1.00–6.00) | 10.0 (10.0–10.0) | 0.200 (0.100–0.600) | 0.25× Kafka (goal 0.12) | pass | 3 |",
                figure::PACED_CPU
            )
        );
    }

    #[test]
    fn what_was_not_measured_is_not_passed() {
        let alone = rounds(&[(Kind::Ottla, &[1.0])], figure::PACED_CPU);
        assert!(row(&alone).contains("| not judged |"), "{}", row(&alone));
        let with_null = rounds(&[(Kind::Ottla, &[1.0]), (Kind::Null, &[1.0])], figure::TAIL_CPU);
        assert!(row(&with_null).contains("| pass in part |"), "{}", row(&with_null));
        let nothing = rounds(&[(Kind::Ottla, &[1.0]), (Kind::Kafka, &[0.0])], figure::PACED_CPU);
        assert!(row(&nothing).contains("| not judged |"), "{}", row(&nothing));
    }

    #[test]
    fn one_bound_that_is_not_kept_makes_a_line_short() {
        let rounds = rounds(&[(Kind::Ottla, &[1.0]), (Kind::Null, &[0.1]), (Kind::Kafka, &[10.0])], figure::TAIL_CPU);
        assert!(row(&rounds).contains("| short |"), "{}", row(&rounds));
    }

    #[test]
    fn another_binary_of_ottla_is_not_judged_as_kafka() {
        let rounds = rounds(&[(Kind::Ottla, &[1.0]), (Kind::Before, &[100.0])], figure::PACED_CPU);
        assert!(row(&rounds).contains("| 0.010 | 0.25× Kafka (goal 0.12) | not judged |"), "{}", row(&rounds));
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn every_case_figure_has_a_line() {
        let text = include_str!("cases.rs");
        let names = text.lines().filter_map(|line| line.trim().strip_prefix("pub const ")?.split_once(": &str = \""));
        let names: Vec<&str> = names.map(|(_, rest)| rest.trim_end_matches("\";")).collect();
        assert!(names.len() > 10);
        for name in names {
            assert!(LINES.iter().any(|line| line.figure == name), "{name}");
        }
    }
}
