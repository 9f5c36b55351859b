//! How far all data planes are: pure.

/// A node that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plane {
    /// The highest revision of an EndpointSlice that its kernel follows; `None` for one that does not say, such as
    /// upstream's kube-proxy, which is not awaited.
    pub revision: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Planes {
    /// One node needs nobody to tell it how far it is.
    #[default]
    Alone,
    /// The revision that all who say have reached.
    Several { nodes: usize, minimum: Option<u64> },
}

impl Planes {
    pub fn of(ready: &[Plane]) -> Self {
        match ready.len() {
            0 | 1 => Self::Alone,
            nodes => Self::Several { nodes, minimum: ready.iter().filter_map(|plane| plane.revision).min() },
        }
    }

    /// Whether everyone who is awaited follows that revision.
    pub fn reached(&self, revision: u64) -> bool {
        match self {
            Self::Alone | Self::Several { minimum: None, .. } => true,
            Self::Several { minimum: Some(minimum), .. } => *minimum >= revision,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planes(revisions: &[Option<u64>]) -> Planes {
        Planes::of(&revisions.iter().map(|revision| Plane { revision: *revision }).collect::<Vec<_>>())
    }

    #[test]
    fn the_slowest_counts_and_the_silent_does_not() {
        assert_eq!(planes(&[Some(7)]), Planes::Alone);
        assert_eq!(planes(&[Some(7), None, Some(5)]), Planes::Several { nodes: 3, minimum: Some(5) });
        assert!(planes(&[Some(7), Some(5)]).reached(5) && !planes(&[Some(7), Some(5)]).reached(6));
        assert!(planes(&[None, None]).reached(9) && planes(&[]).reached(9));
    }
}
