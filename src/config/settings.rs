//! Pure. What an operator said, before anybody knows whether it makes sense: texts by key, each with its origin.
//!
//! The order of precedence is defaults, file, environment, command line: whoever is nearer to the process wins.

use std::collections::BTreeMap;

/// Where a text was said.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Origin {
    /// The configuration file.
    File,
    /// A `KAFKA_*` variable.
    Environment,
    /// `--override`.
    CommandLine,
}

impl Origin {
    /// In a sentence.
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Environment => "environment",
            Self::CommandLine => "--override",
        }
    }
}

/// One text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// As it was written.
    pub text: String,
    /// Where.
    pub origin: Origin,
}

/// All texts, by key.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Settings {
    by_key: BTreeMap<String, Setting>,
}

impl Settings {
    /// Says something, over what was said before at the same place or farther away.
    pub fn set(&mut self, key: &str, text: &str, origin: Origin) {
        let wins = self.by_key.get(key).is_none_or(|known| known.origin <= origin);
        if wins {
            self.by_key.insert(key.to_owned(), Setting { text: text.to_owned(), origin });
        }
    }

    /// What was said of a key.
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.by_key.get(key)
    }

    /// Everything that was said.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.by_key.iter().map(|(key, setting)| (key.as_str(), setting))
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Settings {
    /// Settings as a command line gives them.
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Self {
        let mut settings = Self::default();
        for (key, text) in pairs {
            settings.set(key, text, Origin::CommandLine);
        }
        settings
    }
}
