//! Which numbers a container's user stands for, by the container's own account files; pure.

use crate::spec::User;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// With the primary group, as containerd has it.
    pub(super) additional_gids: Vec<u32>,
    pub(super) home: String,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UserError {
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// `passwd` and `group` are the files' texts, empty when the image has none.
pub(super) fn resolve(user: &User, passwd: &str, group: &str) -> Result<Identity, UserError> {
    let (name, group_name) = match user.name.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|g| !g.is_empty())),
        None => (user.name.as_str(), None),
    };
    let by_uid = |uid: u32| accounts(passwd).find(|a| a.uid == uid);
    let (uid, account) = match (user.uid, name) {
        (Some(uid), _) => (uid, by_uid(uid)),
        (None, "") => (0, by_uid(0)),
        (None, name) => match (accounts(passwd).find(|a| a.name == name), name.parse()) {
            (Some(account), _) => (account.uid, Some(account)),
            (None, Ok(uid)) => (uid, by_uid(uid)),
            (None, Err(_)) => return Err(UserError::NoUser(name.to_owned())),
        },
    };
    let gid = match (user.gid, group_name.filter(|_| user.uid.is_none())) {
        (Some(gid), _) => gid,
        (None, Some(name)) => match (groups(group).find(|g| g.0 == name), name.parse()) {
            (Some((_, gid, _)), _) => gid,
            (None, Ok(gid)) => gid,
            (None, Err(_)) => return Err(UserError::NoGroup(name.to_owned())),
        },
        (None, None) => account.as_ref().map_or(0, |a| a.gid),
    };
    let mut additional_gids = vec![gid];
    if let Some(account) = account.as_ref().filter(|_| !user.only_these_groups) {
        let member = |members: &str| members.split(',').any(|m| m == account.name);
        additional_gids.extend(groups(group).filter(|g| member(g.2)).map(|g| g.1));
    }
    additional_gids.extend(&user.additional_gids);
    let mut seen = Vec::new();
    additional_gids.retain(|gid| {
        let new = !seen.contains(gid);
        seen.push(*gid);
        new
    });
    let home = account.map_or("/", |a| if a.home.is_empty() { "/" } else { a.home }).to_owned();
    Ok(Identity { uid, gid, additional_gids, home })
}

/// The lines of a passwd file that can be read.
fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, uid, gid) = (fields.next()?, fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(Account { name, uid, gid, home: fields.nth(1).unwrap_or("") })
    })
}

/// Name, number and members of the groups that can be read.
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        Some((fields.next()?, fields.nth(1)?.parse().ok()?, fields.next().unwrap_or("")))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\nnginx:x:101:102::/var/cache/nginx:/bin/false\n";
    const GROUP: &str = "root:x:0:\nnginx:x:102:\nssl:x:33:www,nginx\n::\n";

    fn named(name: &str) -> Result<Identity, UserError> {
        resolve(&User { name: name.to_owned(), ..User::default() }, PASSWD, GROUP)
    }

    #[test]
    fn names_and_numbers_mean_the_same() {
        let nginx = named("nginx").unwrap();
        assert_eq!((nginx.uid, nginx.gid), (101, 102));
        assert_eq!(nginx.additional_gids, [102, 33]);
        assert_eq!(nginx.home, "/var/cache/nginx");
        assert_eq!(named("101").unwrap(), nginx);
    }

    #[test]
    fn groups_can_be_chosen() {
        assert_eq!(named("nginx:ssl").unwrap().gid, 33);
        assert_eq!(named("nginx:77").unwrap().gid, 77);
        assert_eq!(named("5000:77").unwrap().uid, 5000);
        assert_eq!(named("5000").unwrap().home, "/");
    }

    #[test]
    fn the_pods_numbers_win() {
        let user = User { name: "nginx:ssl".to_owned(), uid: Some(7), additional_gids: vec![9, 0], ..User::default() };
        let identity = resolve(&user, PASSWD, GROUP).unwrap();
        assert_eq!((identity.uid, identity.gid), (7, 0));
        assert_eq!(identity.additional_gids, [0, 9]);
    }

    #[test]
    fn the_images_groups_can_be_left_out() {
        let user =
            User { name: "nginx".to_owned(), additional_gids: vec![9], only_these_groups: true, ..User::default() };
        assert_eq!(resolve(&user, PASSWD, GROUP).unwrap().additional_gids, [102, 9]);
    }

    #[test]
    fn unknown_names_are_errors_and_no_files_are_none() {
        assert_eq!(named("nobody"), Err(UserError::NoUser("nobody".to_owned())));
        assert_eq!(named("nginx:nogroup"), Err(UserError::NoGroup("nogroup".to_owned())));
        assert_eq!(resolve(&User::default(), "", "").unwrap().home, "/");
    }
}
