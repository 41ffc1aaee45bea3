//! Claims about the module beside.
