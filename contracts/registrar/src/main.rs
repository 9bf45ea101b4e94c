//! DESC

fn main() {}
