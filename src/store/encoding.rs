//! Messages and events as text, as every store holds them.

use duroxide::providers::ProviderError;
use serde::Serialize;

pub fn encode<T: Serialize>(value: &T) -> Result<String, ProviderError> {
    serde_json::to_string(value)
        .map_err(|error| ProviderError::permanent("encode", format!("a value cannot be written as JSON: {error}")))
}
