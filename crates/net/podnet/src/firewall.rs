//! Other programs' firewalls that drop the forwarded packets they do not know (Docker's, say). An accept in a table of
//! our own cannot overrule them, so two rules go to the head of such a chain; their comments say whose they are.

use base_sys::nft::{self, Batch, Cmp, Expr, MetaKey, Nft, Reg, Rule, Verdict};

const NAME: Reg = Reg::new(0);

/// Lets packets from and to pods pass such chains; returns those that were changed. Idempotent.
///
/// A firewall can come at any time: this is to be called again whenever a pod does.
pub(crate) fn accept_pods(prefix: &str) -> Result<Vec<String>, nft::Error> {
    let mut nft = Nft::open()?;
    let mut changed = Vec::new();
    let drops = nft.forward_drops()?;
    if drops.is_empty() {
        return Ok(changed);
    }
    let present = nft.commented_rules()?;
    for drop in drops {
        let mut batch = Batch::new(drop.family, &drop.table);
        for (key, direction) in [(MetaKey::OifName, "to pods"), (MetaKey::IifName, "from pods")] {
            let comment = format!("{}{direction}", mark(prefix));
            let here = |rule: &&nft::StoredRule| {
                (rule.family, &rule.table, &rule.chain) == (drop.family, &drop.table, &drop.chain)
            };
            if !present.iter().filter(here).any(|rule| rule.comment == comment) {
                let exprs = vec![
                    Expr::Meta { key, to: NAME },
                    Expr::Cmp { from: NAME, op: Cmp::Eq, value: prefix.as_bytes().to_vec() },
                    Expr::Verdict(Verdict::Accept),
                ];
                batch.insert_rule(&Rule { chain: drop.chain.clone(), exprs, comment: comment.into() });
            }
        }
        if !batch.is_empty() {
            nft.commit(batch)?;
            changed.push(format!("{} {}", drop.table, drop.chain));
        }
    }
    Ok(changed)
}

/// Removes the rules of [`accept_pods`], wherever they are.
pub(crate) fn remove(prefix: &str) -> Result<(), nft::Error> {
    let mut nft = Nft::open()?;
    let mark = mark(prefix);
    for rule in nft.commented_rules()?.into_iter().filter(|rule| rule.comment.starts_with(&mark)) {
        let mut batch = Batch::new(rule.family, &rule.table);
        batch.delete_rule(&rule.chain, rule.handle);
        match nft.commit(batch) {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The prefix of our links tells one data directory's rules from another's.
fn mark(prefix: &str) -> String {
    format!("sampan {prefix}: ")
}
