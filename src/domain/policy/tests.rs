//! Each rule once accepted and once refused.
