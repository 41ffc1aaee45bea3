//! The table of versions that Apache Kafka 4.3.1 serves, so that every test loops over exactly the row of its API.

use std::ops::RangeInclusive;

const TABLE: &str = include_str!("../tables/apis.tsv");

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Api {
    /// The API key.
    pub key: i16,
    /// Kafka's name of the API.
    pub name: &'static str,
    /// The versions that Kafka's codec has.
    pub versions: RangeInclusive<i16>,
    /// Served on a broker's (client) listener.
    pub on_brokers: bool,
}

/// Every API that Apache Kafka 4.3.1 serves anywhere.
pub fn all() -> Vec<Api> {
    TABLE.lines().skip(1).filter_map(row).collect()
}

// An API that only a later Kafka has stands in the table without versions.
fn row(line: &'static str) -> Option<Api> {
    let columns: Vec<&'static str> = line.split('\t').collect();
    let number = |column: usize| columns[column].parse::<i16>().ok();
    Some(Api {
        key: number(0)?,
        name: columns[1],
        versions: number(2)?..=number(3)?,
        on_brokers: columns[5].contains("BROKER"),
    })
}

/// The versions of the API with this key.
pub fn versions(key: i16) -> RangeInclusive<i16> {
    all().into_iter().find(|api| api.key == key).expect("the table has the key").versions
}
