//! Pulling: from a registry into the store.
