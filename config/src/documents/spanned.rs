//! A value that remembers where it was written.
//!
//! Serde knows no positions. [`Spanned`] asks its deserialiser for a newtype of a name that only ours
//! ([`crate::decode`]) knows, and gets line and column with the value; from any other (JSON of an API server) it gets the
//! value alone. Two that differ in the place alone are equal, and it prints as the value does.

use std::{fmt, marker::PhantomData, ops::Deref};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, SeqAccess, Visitor},
};

use crate::yaml::Mark;

/// The newtype name by which [`crate::decode`] knows what is asked.
pub(crate) const SPANNED: &str = "$outrigger::Spanned";

/// A value and where it was written; dereferences to the value.
#[derive(Debug, Clone, Copy)]
pub struct Spanned<T> {
    /// The value.
    pub inner: T,
    pub(crate) mark: Mark,
}

impl<T> Spanned<T> {
    /// A value that was written nowhere.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self { inner: value, mark: Mark::START }
    }

    /// True if it stands in for what was faulty or missing: it says nothing, and a fault of it has been told.
    pub(crate) fn is_stand_in(&self) -> bool {
        self.mark == Mark::NOWHERE
    }
}

impl<T> From<T> for Spanned<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T> Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl<T: Serialize> Serialize for Spanned<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.inner.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Spanned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(SPANNED, SpannedVisitor(PhantomData))
    }
}

struct SpannedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for SpannedVisitor<T> {
    type Value = Spanned<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        T::deserialize(deserializer).map(Spanned::new)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let missing = || A::Error::custom("a span has three parts");
        let line = seq.next_element()?.ok_or_else(missing)?;
        let column = seq.next_element()?.ok_or_else(missing)?;
        let value = seq.next_element()?.ok_or_else(missing)?;
        Ok(Spanned { inner: value, mark: Mark { line, column } })
    }
}

impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}
