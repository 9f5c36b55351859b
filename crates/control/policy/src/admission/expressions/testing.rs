//! A world in which jane may read pods in `here`, and the account `here/builder` may list secrets there.

use std::sync::Arc;

use machinery_registry::UserInfo;

use super::Asking;
use crate::authorization::Chain;
use crate::rbac::Rbac;
use crate::rbac::tests::granting;

pub(crate) fn asking(user: &str) -> Asking {
    let rbac: Arc<Rbac> = Arc::new(granting(&[
        ("jane", "here", "", "pods", "get"),
        ("system:serviceaccount:here:builder", "here", "", "secrets", "list"),
    ]));
    let chain = Arc::new(Chain::new(&Default::default(), &rbac));
    Asking::new(chain, Arc::new(UserInfo { name: user.to_owned(), ..UserInfo::default() }))
}
