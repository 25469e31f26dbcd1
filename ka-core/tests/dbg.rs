#![cfg(feature = "sim")]
#![allow(warnings)]
use ka_core::sim::*;
use std::collections::BTreeMap;
#[test]
fn dbg() {
    let n: u64 = std::env::var("N").unwrap().parse().unwrap();
    let mut kinds: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for seed in 0..n {
        let r = std::panic::catch_unwind(|| {
            Plan::from_seed(seed)
                .world()
                .try_run()
                .map(|_| ())
                .map_err(|v| (v.rule.to_string(), v.what.clone()))
        });
        match r {
            Ok(Ok(())) => {}
            Ok(Err((rule, what))) => {
                let w: String = what.chars().filter(|c| !c.is_ascii_digit()).collect();
                let k = format!("{rule}: {}", &w[..w.len().min(110)]);
                kinds.entry(k).or_default().push(seed)
            }
            Err(_) => kinds.entry("PANIC".into()).or_default().push(seed),
        }
    }
    for (k, v) in kinds {
        println!("{:4} {k} {:?}", v.len(), &v[..v.len().min(4)])
    }
}
