//! Images: what the store holds, typed.
