//! Broken operators.
