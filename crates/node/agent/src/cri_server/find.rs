//! Sandboxes and containers by their ids, or by the beginnings of them that tell them apart.

use node_grpc::{Code, Status};

use super::{Server, failed};
use crate::seams::{Container, Sandbox};

impl Server {
    pub(super) async fn sandboxes(&self) -> Result<Vec<Sandbox>, Status> {
        self.machine.runtime.list().await.map_err(failed)
    }

    pub(super) async fn sandbox(&self, id: &str) -> Result<Sandbox, Status> {
        let all = self.sandboxes().await?.into_iter().map(|sandbox| (sandbox.id.clone(), sandbox));
        pick("sandbox", id, all)
    }

    /// With the sandbox that it is in.
    pub(super) async fn container(&self, id: &str) -> Result<(Sandbox, Container), Status> {
        let all = self.sandboxes().await?.into_iter().flat_map(|mut sandbox| {
            let containers = std::mem::take(&mut sandbox.containers).into_iter();
            containers.map(move |container| (container.id.clone(), (sandbox.clone(), container)))
        });
        pick("container", id, all)
    }
}

/// What the operation does to something that is gone already: nothing.
pub(super) fn gone_is_none<T>(found: Result<T, Status>) -> Result<Option<T>, Status> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(status) if status.code == Code::NotFound => Ok(None),
        Err(status) => Err(status),
    }
}

fn pick<T>(what: &str, wanted: &str, all: impl Iterator<Item = (String, T)>) -> Result<T, Status> {
    if wanted.is_empty() {
        return Err(Status::new(Code::InvalidArgument, format!("no id of a {what}")));
    }
    let mut found = None;
    for (id, one) in all {
        if id == wanted {
            return Ok(one);
        }
        if id.starts_with(wanted) && found.replace(one).is_some() {
            return Err(Status::new(Code::InvalidArgument, format!("several ids of a {what} begin with {wanted:?}")));
        }
    }
    found.ok_or_else(|| Status::new(Code::NotFound, format!("{what} {wanted:?} not found")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_by_a_beginning_that_only_it_has() {
        let find = |wanted: &str| {
            let all = ["ab", "abc", "b1", "b2"].map(|id| (id.to_owned(), id));
            pick("sandbox", wanted, all.into_iter()).map_err(|status| status.code)
        };
        assert_eq!((find("ab"), find("abc"), find("b1")), (Ok("ab"), Ok("abc"), Ok("b1")));
        assert_eq!(find("b"), Err(Code::InvalidArgument));
        assert_eq!(find(""), Err(Code::InvalidArgument));
        assert_eq!(find("c"), Err(Code::NotFound));
    }
}
