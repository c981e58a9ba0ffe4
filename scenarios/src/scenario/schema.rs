//! The JSON schema of scenario files, from the types.
