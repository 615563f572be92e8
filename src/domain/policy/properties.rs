//! Properties, against a reading of RBAC that shares no code with the module.
