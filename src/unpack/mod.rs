//! Unpacking: a layer's tar stream into a directory, exactly and safely.
