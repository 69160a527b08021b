//! The committed corpus, without a fuzzer: inputs of every kind, and those that once broke something.

use std::fs;
use std::path::Path;

use towpath_fuzz::Target;

#[test]
fn everything_holds_for_the_corpus() {
    for (name, target) in Target::ALL {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let inputs: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!inputs.is_empty(), "{} is empty", folder.display());
        for input in inputs {
            println!("{}", input.display());
            target.check(&fs::read(input).unwrap());
        }
    }
}
