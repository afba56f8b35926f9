//! A configuration as text: TOML whose mistakes are told with the line they stand in. What the keys mean is not known here.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{Error, Result};

/// Where something stands: bytes of the text.
pub type Span = Range<usize>;

/// A configuration's text and the path that stands in messages.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// TOML.
    pub text: &'a str,
    /// Where it came from.
    pub path: &'a Path,
}

impl<'a> Source<'a> {
    /// The document, with every number finite: TOML accepts `nan`.
    ///
    /// # Errors
    /// [`Error::Config`] with the line.
    pub fn document(self) -> Result<Spanned<DeTable<'a>>> {
        let document = DeTable::parse(self.text).map_err(|e| self.syntax(&e))?;
        match non_finite(document.get_ref()) {
            Some((key, span)) => Err(self.error(Some(span), format!("`{key}` must be a finite number"))),
            None => Ok(document),
        }
    }

    /// An error at this place.
    pub fn error(self, span: Option<Span>, message: String) -> Error {
        let line = self.text[..self.offset(span)].matches('\n').count() + 1;
        Error::Config { path: self.path.to_owned(), line, message }
    }

    /// The error of a parser or decoder, with the line it stands in.
    pub fn syntax(self, error: &toml::de::Error) -> Error {
        self.decoding(error, error.span())
    }

    /// The same at a place that is known better than to the decoder.
    pub fn decoding(self, error: &toml::de::Error, span: Option<Span>) -> Error {
        let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
        let before = &self.text[..self.offset(span.clone())];
        let line = self.text[before.rfind('\n').map_or(0, |newline| newline + 1)..].lines().next();
        self.error(span, line.map_or(message.clone(), |line| format!("{message} (in `{}`)", line.trim())))
    }

    fn offset(self, span: Option<Span>) -> usize {
        span.map_or(0, |span| span.start).min(self.text.len())
    }
}

/// The first key whose value is NaN or infinite.
fn non_finite(table: &DeTable<'_>) -> Option<(String, Span)> {
    fn search(key: &Spanned<std::borrow::Cow<'_, str>>, value: &Spanned<DeValue<'_>>) -> Option<(String, Span)> {
        match value.get_ref() {
            DeValue::Float(number) if number.as_str().contains("nan") || number.as_str().contains("inf") => {
                Some((key.get_ref().to_string(), value.span()))
            }
            DeValue::Array(values) => values.iter().find_map(|value| search(key, value)),
            DeValue::Table(table) => non_finite(table),
            _ => None,
        }
    }
    table.iter().find_map(|(key, value)| search(key, value))
}

/// Where the key `name` stands in the table or anything in it.
pub fn find_key(table: &DeTable<'_>, name: &str) -> Option<Span> {
    table
        .iter()
        .find_map(|(key, value)| if key.get_ref() == name { Some(key.span()) } else { find_in_value(value.get_ref(), name) })
}

/// Where the key `name` stands in anything in the value.
pub fn find_in_value(value: &DeValue<'_>, name: &str) -> Option<Span> {
    match value {
        DeValue::Table(table) => find_key(table, name),
        DeValue::Array(values) => values.iter().find_map(|value| find_in_value(value.get_ref(), name)),
        _ => None,
    }
}

/// The first key whose value differs, in alphabetical order: its path, the value in `a` and the value in `b`.
pub fn first_difference(a: &toml::Value, b: &toml::Value) -> Option<(String, String, String)> {
    difference(String::new(), Some(a), Some(b))
}

fn difference(path: String, a: Option<&toml::Value>, b: Option<&toml::Value>) -> Option<(String, String, String)> {
    use toml::Value::{Array, Table};
    match (a, b) {
        _ if a == b => None,
        (Some(Table(a)), Some(Table(b))) => {
            let keys: BTreeSet<_> = a.keys().chain(b.keys()).collect();
            let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            keys.into_iter().find_map(|key| difference(below(key), a.get(key), b.get(key)))
        }
        (Some(Array(a)), Some(Array(b))) if a.iter().chain(b).all(toml::Value::is_table) => {
            (0..a.len().max(b.len())).find_map(|i| difference(format!("{path}[{i}]"), a.get(i), b.get(i)))
        }
        _ => {
            let text = |value: Option<&toml::Value>| value.map_or("(absent)".to_owned(), ToString::to_string);
            Some((path, text(a), text(b)))
        }
    }
}
