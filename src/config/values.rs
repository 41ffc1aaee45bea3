//! Pure. From the texts that were set to values of the right type.

use std::collections::BTreeMap;

use super::key::Value;
use super::table;

/// Broker keys as set, parsed; every other key has its default.
pub(super) struct Values {
    set: BTreeMap<&'static str, Value>,
}

/// What a typed field can be made of.
pub(super) trait FromValue: Sized {
    /// `None` is null. `Err` says that the table and the field disagree about the type.
    fn from_value(value: Option<Value>) -> Result<Self, Option<Value>>;
}

impl Values {
    /// Parses what is in the table; names that are not are left to the notices. Errors come one sentence per key.
    pub(super) fn parse<'a>(texts: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, Vec<String>> {
        let mut set = BTreeMap::new();
        let mut errors = Vec::new();
        for (name, text) in texts {
            let Some(key) = table::broker_keys().get(name) else { continue };
            match key.parse(text) {
                Ok(value) => drop(set.insert(key.name, value)),
                Err(sentence) => errors.push(sentence),
            }
        }
        if errors.is_empty() { Ok(Self { set }) } else { Err(errors) }
    }

    /// The value of a key of the table, set or by default; `None` is null.
    pub(super) fn get(&self, name: &str) -> Option<Value> {
        if let Some(value) = self.set.get(name) {
            return Some(value.clone());
        }
        let key = table::broker_keys().get(name).unwrap_or_else(|| panic!("{name} is not in the table"));
        table::effective_default(key).map(|text| key.parse(text).expect("the table's defaults are valid"))
    }

    /// True when somebody set the key.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.set.contains_key(name)
    }

    /// The value of a key as the type that the caller needs.
    pub(super) fn read<T: FromValue>(&self, name: &str) -> T {
        T::from_value(self.get(name)).unwrap_or_else(|value| panic!("{name} is no such type: {value:?}"))
    }
}

impl FromValue for bool {
    fn from_value(value: Option<Value>) -> Result<Self, Option<Value>> {
        if let Some(Value::Boolean(flag)) = value { Ok(flag) } else { Err(value) }
    }
}

impl FromValue for i64 {
    fn from_value(value: Option<Value>) -> Result<Self, Option<Value>> {
        if let Some(Value::Number(number)) = value { Ok(number) } else { Err(value) }
    }
}

impl FromValue for i32 {
    fn from_value(value: Option<Value>) -> Result<Self, Option<Value>> {
        let number = i64::from_value(value)?;
        Self::try_from(number).map_err(|_| Some(Value::Number(number)))
    }
}

impl FromValue for i16 {
    fn from_value(value: Option<Value>) -> Result<Self, Option<Value>> {
        let number = i64::from_value(value)?;
        Self::try_from(number).map_err(|_| Some(Value::Number(number)))
    }
}

impl FromValue for String {
    fn from_value(value: Option<Value>) -> Result<Self, Option<Value>> {
        if let Some(Value::Text(text)) = value { Ok(text) } else { Err(value) }
    }
}

impl FromValue for Vec<String> {
    fn from_value(value: Option<Value>) -> Result<Self, Option<Value>> {
        match value {
            Some(Value::List(items)) => Ok(items),
            None => Ok(Self::new()),
            other => Err(other),
        }
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Option<Value>) -> Result<Self, Option<Value>> {
        value.map(|value| T::from_value(Some(value))).transpose()
    }
}
