//! Pure. What the table says of one key, and what a text must look like to be its value.
//!
//! The sentences of refusal are Kafka's own (`ConfigDef`, `ConfigException`): tools and people search for them.

use std::fmt;

/// The type of a value, as `ConfigDef.Type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `true` or `false`, in any case.
    Boolean,
    /// Thirty-two bits.
    Int,
    /// Sixteen bits.
    Short,
    /// Sixty-four bits.
    Long,
    /// Floating point.
    Double,
    /// Text.
    String,
    /// Texts between commas.
    List,
    /// A Java class's name.
    Class,
    /// Text that is never shown.
    Password,
}

impl Kind {
    /// The name that `ConfigDef` gives the type.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Boolean => "BOOLEAN",
            Self::Int => "INT",
            Self::Short => "SHORT",
            Self::Long => "LONG",
            Self::Double => "DOUBLE",
            Self::String => "STRING",
            Self::List => "LIST",
            Self::Class => "CLASS",
            Self::Password => "PASSWORD",
        }
    }

    /// The number of the type in DescribeConfigs (KIP-569).
    pub const fn wire(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Short => 4,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
            Self::Class => 8,
            Self::Password => 9,
        }
    }
}

/// What a key has when nobody sets it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Preset {
    /// Kafka insists on a value. Ottla has one of its own for each of these.
    Required,
    /// Unset.
    Null,
    /// This.
    Text(&'static str),
}

/// Which values a key takes, beyond its type.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Allowed {
    /// All.
    Any,
    /// A list with something in it. Kafka's tables do not show this rule.
    Filled,
    /// A number from here.
    AtLeast(f64),
    /// A number from here to there, both included.
    Between(f64, f64),
    /// One of these, or a list of these.
    OneOf(&'static [&'static str]),
    /// A list of at least one of these. Shown as [`Allowed::OneOf`].
    SomeOf(&'static [&'static str]),
    /// One of these in any case.
    OneOfAnyCase(&'static [&'static str]),
    /// 1 to 9, or -1.
    GzipLevel,
    /// Text with at least one character.
    NonEmptyText,
    /// Any text.
    NonNullText,
    /// `host:port` or `id@host:port`; looked into with the cross-checks.
    NonEmptyList,
    /// `*` or a list of `partition:broker`.
    ThrottledReplicas,
}

impl fmt::Display for Allowed {
    /// As Kafka prints its validators.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any | Self::Filled => Ok(()),
            Self::AtLeast(min) => write!(f, "[{min},...]"),
            Self::Between(min, max) => write!(f, "[{min},...,{max}]"),
            Self::OneOf(names) | Self::SomeOf(names) => write!(f, "[{}]", names.join(", ")),
            Self::OneOfAnyCase(names) => write!(f, "(case insensitive) [{}]", names.join(", ")),
            Self::GzipLevel => f.write_str("[1,...,9] or -1"),
            Self::NonEmptyText => f.write_str("non-empty string"),
            Self::NonNullText => f.write_str("non-null string"),
            Self::NonEmptyList => f.write_str("non-empty list"),
            Self::ThrottledReplicas => f.write_str("[partitionId]:[brokerId],[partitionId]:[brokerId],..."),
        }
    }
}

/// How much Kafka's documentation makes of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Importance {
    /// High.
    High,
    /// Medium.
    Medium,
    /// Low.
    Low,
}

/// Where a broker key may be changed while the broker runs (KIP-226).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Only in the file: a restart.
    ReadOnly,
    /// For one broker.
    PerBroker,
    /// For one broker or all.
    ClusterWide,
    /// Not documented, not described.
    Internal,
}

/// How far this version goes along with a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Support {
    /// It does what it says.
    Honoured,
    /// It tunes machinery of Kafka's that does not exist here: taken, no effect, nothing lost.
    Unneeded,
    /// It will do what it says; until then a warning says that it does not.
    NotYet,
    /// Running as if it were not set would break a promise: the start is refused.
    Refused,
}

/// One key of the table.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Key {
    /// The name.
    pub name: &'static str,
    /// The type.
    pub kind: Kind,
    /// The default.
    pub preset: Preset,
    /// The values it takes.
    pub allowed: Allowed,
    /// The importance.
    pub importance: Importance,
    /// Where it may be changed.
    pub scope: Scope,
    /// Whether it works.
    pub support: Support,
    /// One sentence for people.
    pub documentation: &'static str,
    /// For topic and group keys: the broker keys that supply the default, first wins, each with its factor.
    pub synonyms: &'static [(&'static str, i64)],
}

/// A value of the right type.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// BOOLEAN.
    Boolean(bool),
    /// INT, SHORT, LONG.
    Number(i64),
    /// DOUBLE.
    Double(f64),
    /// STRING, CLASS, PASSWORD.
    Text(String),
    /// LIST.
    List(Vec<String>),
}

impl fmt::Display for Value {
    /// As Kafka answers DescribeConfigs (`ConfigDef.convertToString`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => value.fmt(f),
            Self::Number(value) => value.fmt(f),
            Self::Double(value) => f.write_str(&java_double(*value)),
            Self::Text(value) => f.write_str(value),
            Self::List(values) => f.write_str(&values.join(",")),
        }
    }
}

/// A double as Java prints it: plain between 10⁻³ and 10⁷, else with an exponent, always with a decimal point.
fn java_double(value: f64) -> String {
    let magnitude = value.abs();
    let plain = magnitude == 0.0 || (1e-3..1e7).contains(&magnitude);
    let text = if plain { format!("{value:?}") } else { format!("{value:E}") };
    match text.split_once('E') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0E{exponent}"),
        _ => text,
    }
}

impl Key {
    /// Never shown: DescribeConfigs answers null, log lines leave it out.
    pub fn sensitive(&self) -> bool {
        self.kind == Kind::Password
    }

    /// The value of a text, or Kafka's sentence of refusal.
    pub fn parse(&self, text: &str) -> Result<Value, String> {
        let value = self.typed(text)?;
        self.check(&value)?;
        Ok(value)
    }

    /// The default as a value; `None` when it is null or Kafka has none.
    pub fn default_value(&self) -> Option<Value> {
        match self.preset {
            Preset::Text(text) => Some(self.typed(text).expect("the table's defaults have their type")),
            Preset::Null | Preset::Required => None,
        }
    }

    fn invalid(&self, value: &dyn fmt::Display, why: &str) -> String {
        format!("Invalid value {value} for configuration {}: {why}", self.name)
    }

    fn typed(&self, text: &str) -> Result<Value, String> {
        let trimmed = text.trim();
        let number = |min: i64, max: i64| {
            trimmed
                .parse::<i64>()
                .ok()
                .filter(|n| (min..=max).contains(n))
                .map(Value::Number)
                .ok_or_else(|| self.invalid(&text, &format!("Not a number of type {}", self.kind.name())))
        };
        match self.kind {
            Kind::Boolean if trimmed.eq_ignore_ascii_case("true") => Ok(Value::Boolean(true)),
            Kind::Boolean if trimmed.eq_ignore_ascii_case("false") => Ok(Value::Boolean(false)),
            Kind::Boolean => Err(self.invalid(&text, "Expected value to be either true or false")),
            Kind::Short => number(i64::from(i16::MIN), i64::from(i16::MAX)),
            Kind::Int => number(i64::from(i32::MIN), i64::from(i32::MAX)),
            Kind::Long => number(i64::MIN, i64::MAX),
            Kind::Double => trimmed
                .parse::<f64>()
                .map(Value::Double)
                .map_err(|_| self.invalid(&text, "Not a number of type DOUBLE")),
            Kind::List => self.list(trimmed),
            Kind::String | Kind::Class | Kind::Password => Ok(Value::Text(trimmed.to_owned())),
        }
    }

    /// A list without what is said twice (KIP-1161), and never with an empty element. Where an empty list is refused
    /// anyway, an element that is empty is overlooked: tools end `advertised.listeners` with a comma.
    fn list(&self, text: &str) -> Result<Value, String> {
        let mut values: Vec<String> = Vec::new();
        for item in text.split(',').map(str::trim).filter(|_| !text.is_empty()) {
            if item.is_empty() && self.allowed == Allowed::Filled {
                continue;
            }
            if item.is_empty() {
                return Err(format!("Configuration '{}' values must not be empty.", self.name));
            }
            if !values.iter().any(|known| known == item) {
                values.push(item.to_owned());
            }
        }
        Ok(Value::List(values))
    }

    fn check(&self, value: &Value) -> Result<(), String> {
        match (self.allowed, value) {
            (Allowed::AtLeast(min), _) => self.check_range(value, min, f64::INFINITY),
            (Allowed::Between(min, max), _) => self.check_range(value, min, max),
            (Allowed::GzipLevel, Value::Number(level)) if *level != -1 && !(1..=9).contains(level) => {
                Err(self.invalid(level, "Value must be between 1 and 9 or equal to -1"))
            }
            (Allowed::NonEmptyText, Value::Text(text)) if text.is_empty() => {
                Err(self.invalid(text, "String must be non-empty"))
            }
            (Allowed::Filled, Value::List(items)) if items.is_empty() => Err(self.empty_list("any non-empty value")),
            (Allowed::SomeOf(_), Value::List(items)) if items.is_empty() => {
                Err(self.empty_list(&self.allowed.to_string()))
            }
            (Allowed::OneOf(names) | Allowed::SomeOf(names), Value::List(items)) => {
                items.iter().try_for_each(|item| self.check_name(item, names))
            }
            (Allowed::OneOf(names), Value::Text(text)) => self.check_name(text, names),
            (Allowed::OneOfAnyCase(names), Value::Text(text))
                if !names.iter().any(|name| name.eq_ignore_ascii_case(text)) =>
            {
                Err(self.invalid(text, &format!("String must be one of (case insensitive): {}", names.join(", "))))
            }
            (Allowed::ThrottledReplicas, Value::List(items)) => self.check_replicas(items),
            _ => Ok(()),
        }
    }

    fn check_range(&self, value: &Value, min: f64, max: f64) -> Result<(), String> {
        #[expect(clippy::cast_precision_loss, reason = "the bounds are small, and rounding keeps the order")]
        let number = match value {
            Value::Number(number) => *number as f64,
            Value::Double(number) => *number,
            _ => return Ok(()),
        };
        if number < min {
            Err(self.invalid(value, &format!("Value must be at least {min}")))
        } else if number > max {
            Err(self.invalid(value, &format!("Value must be no more than {max}")))
        } else {
            Ok(())
        }
    }

    fn check_name(&self, text: &str, names: &[&str]) -> Result<(), String> {
        if names.contains(&text) {
            return Ok(());
        }
        Err(self.invalid(&text, &format!("String must be one of: {}", names.join(", "))))
    }

    fn check_replicas(&self, items: &[String]) -> Result<(), String> {
        let pair = |item: &String| {
            item.split_once(':').is_some_and(|(partition, broker)| {
                [partition, broker].iter().all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
            })
        };
        if items.iter().all(pair) || (items.len() == 1 && items[0] == "*") {
            return Ok(());
        }
        let why = format!(
            "{} must be the literal '*' or a list of replicas in the following format: {}",
            self.name, self.allowed
        );
        Err(self.invalid(&format!("[{}]", items.join(", ")), &why))
    }

    fn empty_list(&self, valid: &str) -> String {
        format!("Configuration '{}' must not be empty. Valid values include: {valid}", self.name)
    }
}
