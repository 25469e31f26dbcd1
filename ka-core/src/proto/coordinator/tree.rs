//! The tree: who feeds whom, who lists a child until that has a new link, and who holds what others may lack.
//!
//! ```text
//!   parent ──▶ children            one parent each, no cycle, the root above all that have a place
//!   handover_from ──▶ handing_over the previous parent lists a node until the node's new link is up
//!   keepers ──▶ keeps_for          a node that was taken from those above it, and who holds what it lacks, by its own word
//!   retainers ──▶ retains_for      a node that may come back, and who evicts nothing that it may lack
//! ```
//!
//! Each relation is kept at both ends, here and nowhere else, so that the ends cannot disagree: [`check`](Tree::check) holds
//! that in debug builds. Every change of a place is noted for the next views.
//!
//! What is absent: why a node is somebody's child. That is decided by `placement`.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;

use crate::proto::topology;
use crate::types::Invalid;
use crate::types::{Epoch, NodeId};

/// A node's place in the tree.
#[derive(Clone, Debug, Default)]
struct Place {
    parent: Option<NodeId>,
    /// The first view that names this parent, and the last that the node was sent.
    since: Epoch,
    sent: Epoch,
    children: Vec<NodeId>,
    /// The parent that this node's link is up to, as far as is known.
    linked_to: Option<NodeId>,
    /// The previous parent; it goes on listing this node until the new link is up.
    handover_from: Option<NodeId>,
    /// The nodes that this one lists as their previous parent.
    handing_over: Vec<NodeId>,
    /// The nodes that hold what this one lacks though it is not below them any more, and those that this one does so for.
    keepers: Vec<NodeId>,
    keeps_for: Vec<NodeId>,
    /// The nodes that retain what this one may lack when it comes back.
    retainers: Vec<NodeId>,
    /// The number of others that this node retains for.
    retains_for: u32,
}

/// The parents and children of all nodes. A node that has never had a place has an empty one.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// By number; numbers are dense, and none is given twice.
    places: Vec<Place>,
    epoch: Epoch,
    /// Nodes whose view is another one now, and those of them that have a new parent.
    changed: BTreeSet<NodeId>,
    moved: BTreeSet<NodeId>,
}

impl Tree {
    // ---- questions ----

    /// The node's parent; `None` while it has no place, or needs none any more.
    #[must_use]
    pub fn parent(&self, node: NodeId) -> Option<NodeId> {
        self.place(node)?.parent
    }

    /// The node's children, in the order in which they came.
    #[must_use]
    pub fn children(&self, node: NodeId) -> &[NodeId] {
        self.place(node).map_or(&[], |place| &place.children)
    }

    /// The nodes that this one's view lists: its children, and those that it hands over.
    pub fn listed(&self, node: NodeId) -> impl Iterator<Item = NodeId> {
        self.children(node).iter().chain(self.handing_over(node)).copied()
    }

    /// The previous parent, while that still lists the node.
    #[must_use]
    pub fn handover_from(&self, node: NodeId) -> Option<NodeId> {
        self.place(node)?.handover_from
    }

    /// The nodes that this one lists as their previous parent.
    #[must_use]
    pub fn handing_over(&self, node: NodeId) -> &[NodeId] {
        self.place(node).map_or(&[], |place| &place.handing_over)
    }

    /// The nodes that hold what this one lacks though it is not below them any more.
    #[must_use]
    pub fn keepers(&self, node: NodeId) -> &[NodeId] {
        self.place(node).map_or(&[], |place| &place.keepers)
    }

    /// The nodes for which this one holds what they lack though they are not below it any more.
    #[must_use]
    pub fn keeps_for(&self, node: NodeId) -> &[NodeId] {
        self.place(node).map_or(&[], |place| &place.keeps_for)
    }

    /// The parent that the node's link is up to.
    #[must_use]
    pub fn linked_to(&self, node: NodeId) -> Option<NodeId> {
        self.place(node)?.linked_to
    }

    /// Whether the node retains what others may lack.
    #[must_use]
    pub fn retains(&self, node: NodeId) -> bool {
        self.place(node).is_some_and(|place| place.retains_for > 0)
    }

    /// The nodes that retain what this one may lack.
    #[must_use]
    pub fn retainers(&self, node: NodeId) -> &[NodeId] {
        self.place(node).map_or(&[], |place| &place.retainers)
    }

    /// Whether the node may speak of this view's parent as its present one: it was sent the view, and has no later parent.
    #[must_use]
    pub fn is_present(&self, node: NodeId, epoch: Epoch) -> bool {
        self.place(node).is_some_and(|place| (place.since..=place.sent).contains(&epoch))
    }

    /// The number of the last views.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether views are due.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Whether `node` is `top` or below it.
    #[must_use]
    pub fn is_below(&self, node: NodeId, top: NodeId) -> bool {
        core::iter::successors(Some(node), |at| self.parent(*at)).any(|at| at == top)
    }

    /// The nodes above this one, the nearest first.
    pub fn above(&self, node: NodeId) -> impl Iterator<Item = NodeId> {
        core::iter::successors(self.parent(node), |at| self.parent(*at))
    }

    /// The node and everybody below it.
    pub fn subtree(&self, node: NodeId) -> impl Iterator<Item = NodeId> {
        let mut todo = Vec::from([node]);
        core::iter::from_fn(move || {
            let next = todo.pop()?;
            todo.extend(self.children(next));
            Some(next)
        })
    }

    /// The last node of the line that begins with this one: nobody is below it.
    #[must_use]
    pub fn leaf_below(&self, node: NodeId) -> NodeId {
        core::iter::successors(Some(node), |at| self.children(*at).last().copied()).last().unwrap_or(node)
    }

    // ---- places ----

    /// Arranges nodes as a full tree, by rank: the first is the root.
    pub fn arrange(&mut self, ranks: &[NodeId], fan_out: usize) {
        for (rank, node) in ranks.iter().enumerate() {
            let parent = topology::parent(rank, fan_out).map(|above| ranks[above]);
            let children = topology::children(rank, fan_out, ranks.len()).map(|below| ranks[below]).collect();
            let place = self.place_mut(*node);
            (place.parent, place.children) = (parent, children);
            self.changed.insert(*node);
            self.moved.insert(*node);
        }
    }

    /// Makes `parent` the parent of `node`, with everybody below `node`. One that is below `node` itself cannot be: then the
    /// root is.
    pub fn attach(&mut self, node: NodeId, parent: NodeId) {
        let parent = if self.is_below(parent, node) { NodeId::ROOT } else { parent };
        self.detach(node);
        self.place_mut(parent).children.push(node);
        self.place_mut(node).parent = Some(parent);
        self.changed.extend([node, parent]);
        self.moved.insert(node);
        if self.handover_from(node) == Some(parent) {
            self.end_handover(node);
        }
    }

    /// Takes a node, with everybody below it, from its parent.
    fn detach(&mut self, node: NodeId) {
        let place = self.place_mut(node);
        place.linked_to = None;
        let Some(parent) = place.parent.take() else { return };
        self.place_mut(parent).children.retain(|child| *child != node);
        self.changed.insert(parent);
    }

    /// Takes a node out of the tree: its children have no parent until they are attached elsewhere. A child that never is
    /// needs none, and is not told.
    pub fn remove(&mut self, node: NodeId) {
        self.end_handover(node);
        self.end_keeping(node);
        for other in core::mem::take(&mut self.place_mut(node).keeps_for) {
            self.place_mut(other).keepers.retain(|keeper| *keeper != node);
        }
        self.detach(node);
        for child in core::mem::take(&mut self.place_mut(node).children) {
            self.place_mut(child).parent = None;
        }
        self.changed.insert(node);
    }

    /// Notes that the node's link to its parent is up; whether that is news.
    pub fn link_up(&mut self, node: NodeId) -> bool {
        let place = self.place_mut(node);
        place.parent.is_some_and(|parent| place.linked_to.replace(parent) != Some(parent))
    }

    /// Notes that the node's link is down.
    pub fn link_down(&mut self, node: NodeId) {
        self.place_mut(node).linked_to = None;
    }

    // ---- handovers ----

    /// Has `old` list `node` until a link of it is up. A handover that is under way already goes on instead.
    pub fn hand_over(&mut self, node: NodeId, old: NodeId) {
        let place = self.place_mut(node);
        if place.handover_from.is_none() {
            place.handover_from = Some(old);
            self.place_mut(old).handing_over.push(node);
            self.changed.insert(old);
        }
    }

    /// Ends the handover of a node; the previous parent, if there was one.
    pub fn end_handover(&mut self, node: NodeId) -> Option<NodeId> {
        let old = self.place_mut(node).handover_from.take()?;
        self.place_mut(old).handing_over.retain(|other| *other != node);
        self.changed.insert(old);
        Some(old)
    }

    // ---- keepers ----

    /// Has `keeper` hold what `node` lacks, as long as that is little enough.
    pub fn keep(&mut self, node: NodeId, keeper: NodeId) {
        let place = self.place_mut(node);
        if node != keeper && !place.keepers.contains(&keeper) {
            place.keepers.push(keeper);
            self.place_mut(keeper).keeps_for.push(node);
        }
    }

    /// Has nobody hold any more what `node` lacks; who did.
    pub fn end_keeping(&mut self, node: NodeId) -> Vec<NodeId> {
        let keepers = core::mem::take(&mut self.place_mut(node).keepers);
        for keeper in &keepers {
            self.place_mut(*keeper).keeps_for.retain(|other| *other != node);
        }
        keepers
    }

    // ---- retention ----

    /// Has `retainer` evict nothing that `node` may lack, as far as it has room.
    pub fn retain(&mut self, node: NodeId, retainer: NodeId) {
        self.place_mut(node).retainers.push(retainer);
        self.place_mut(retainer).retains_for += 1;
        self.changed.insert(retainer);
    }

    /// Ends the retention for a node that has caught up, or has ended.
    pub fn end_retention(&mut self, node: NodeId) {
        for retainer in core::mem::take(&mut self.place_mut(node).retainers) {
            let place = self.place_mut(retainer);
            place.retains_for = place.retains_for.saturating_sub(1);
            self.changed.insert(retainer);
        }
    }

    // ---- views ----

    /// Has the node's view sent again.
    pub fn touch(&mut self, node: NodeId) {
        self.changed.insert(node);
    }

    /// Forgets what has changed: nobody has a view yet.
    pub fn forget_changes(&mut self) {
        self.changed.clear();
    }

    /// The nodes whose views are due, which are those of the next epoch.
    pub fn publish(&mut self) -> BTreeSet<NodeId> {
        if self.changed.is_empty() {
            return BTreeSet::new();
        }
        debug_assert_eq!(if self.places.len() > CHECKED { Ok(()) } else { self.check() }, Ok(()));
        self.epoch = Epoch(self.epoch.0 + 1);
        for node in core::mem::take(&mut self.moved) {
            self.place_mut(node).since = self.epoch;
        }
        let changed = core::mem::take(&mut self.changed);
        for node in &changed {
            self.place_mut(*node).sent = self.epoch;
        }
        changed
    }

    /// Whether both ends of each relation agree, and nobody is below itself.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), Invalid> {
        let mut retained = alloc::vec![0_u32; self.places.len()];
        for (number, place) in self.places.iter().enumerate() {
            let node = NodeId(number as u32);
            let lists = |of: Option<NodeId>, list: fn(&Place) -> &Vec<NodeId>| {
                of.and_then(|other| self.place(other))
                    .map(|other| list(other).iter().filter(|n| **n == node).count())
            };
            if lists(place.parent, |p| &p.children).is_some_and(|times| times != 1) {
                return Err(format!("{node} is not a child of its parent {:?}, once", place.parent).into());
            }
            if place.children.iter().any(|child| self.parent(*child) != Some(node)) {
                return Err(format!("not all of {:?} have {node} for a parent", place.children).into());
            }
            if lists(place.handover_from, |p| &p.handing_over).is_some_and(|times| times != 1) {
                return Err(format!("{:?} does not hand {node} over, once", place.handover_from).into());
            }
            if place.handing_over.iter().any(|other| self.handover_from(*other) != Some(node)) {
                return Err(format!("not all of {:?} are handed over by {node}", place.handing_over).into());
            }
            let kept = |keeper: &NodeId| self.keeps_for(*keeper).iter().filter(|n| **n == node).count() == 1;
            let keeps = |other: &NodeId| self.keepers(*other).contains(&node);
            if !place.keepers.iter().all(kept) || !place.keeps_for.iter().all(keeps) {
                return Err(format!("{node} and its keepers do not agree").into());
            }
            for retainer in &place.retainers {
                retained[retainer.index()] += 1;
            }
        }
        self.check_cycles()?;
        match self.places.iter().zip(retained).position(|(place, times)| place.retains_for != times) {
            Some(number) => {
                Err(format!("{} retains for another number of nodes", NodeId(number as u32)).into())
            }
            None => Ok(()),
        }
    }

    /// Walks up from each node to where another walk has been; a walk that meets itself is a cycle.
    fn check_cycles(&self) -> Result<(), Invalid> {
        let mut walked = alloc::vec![None; self.places.len()];
        for start in 0..self.places.len() {
            let mut at = Some(NodeId(start as u32));
            while let Some(node) = at {
                match walked[node.index()].replace(start) {
                    Some(walk) if walk == start => return Err(format!("{node} is below itself").into()),
                    Some(_) => break,
                    None => at = self.parent(node),
                }
            }
        }
        Ok(())
    }

    fn place(&self, node: NodeId) -> Option<&Place> {
        self.places.get(node.index())
    }

    fn place_mut(&mut self, node: NodeId) -> &mut Place {
        if node.index() >= self.places.len() {
            self.places.resize_with(node.index() + 1, Place::default);
        }
        &mut self.places[node.index()]
    }
}

/// Trees of more nodes are not checked at each change.
const CHECKED: usize = 256;

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Nodes of a random tree.
    const NODES: u32 = 8;

    #[derive(Clone, Copy, Debug)]
    enum Change {
        Attach(NodeId, NodeId),
        Remove(NodeId),
        LinkUp(NodeId),
        LinkDown(NodeId),
        HandOver(NodeId, NodeId),
        EndHandover(NodeId),
        Keep(NodeId, NodeId),
        EndKeeping(NodeId),
        Retain(NodeId, NodeId),
        EndRetention(NodeId),
    }

    fn change() -> impl Strategy<Value = Change> {
        let any = || (0..NODES).prop_map(NodeId);
        let node = || (1..NODES).prop_map(NodeId);
        prop_oneof![
            4 => (node(), any()).prop_map(|(node, parent)| Change::Attach(node, parent)),
            1 => node().prop_map(Change::Remove),
            2 => node().prop_map(Change::LinkUp),
            1 => node().prop_map(Change::LinkDown),
            2 => (node(), any()).prop_map(|(node, old)| Change::HandOver(node, old)),
            1 => node().prop_map(Change::EndHandover),
            1 => (node(), any()).prop_map(|(node, keeper)| Change::Keep(node, keeper)),
            1 => node().prop_map(Change::EndKeeping),
            1 => (node(), any()).prop_map(|(node, retainer)| Change::Retain(node, retainer)),
            1 => node().prop_map(Change::EndRetention),
        ]
    }

    fn apply(tree: &mut Tree, change: Change) {
        match change {
            Change::Attach(node, parent) => tree.attach(node, parent),
            Change::Remove(node) => tree.remove(node),
            Change::LinkUp(node) => drop(tree.link_up(node)),
            Change::LinkDown(node) => tree.link_down(node),
            Change::HandOver(node, old) => tree.hand_over(node, old),
            Change::EndHandover(node) => drop(tree.end_handover(node)),
            Change::Keep(node, keeper) => tree.keep(node, keeper),
            Change::EndKeeping(node) => drop(tree.end_keeping(node)),
            Change::Retain(node, retainer) => tree.retain(node, retainer),
            Change::EndRetention(node) => tree.end_retention(node),
        }
    }

    /// The first view that names the node's present parent.
    fn first_view(tree: &Tree, node: u32) -> Epoch {
        tree.place(NodeId(node)).map_or(Epoch::default(), |place| place.since)
    }

    /// The contents of a node's view.
    fn view(tree: &Tree, node: u32) -> (Option<NodeId>, Vec<NodeId>, bool) {
        let node = NodeId(node);
        (tree.parent(node), tree.listed(node).collect(), tree.retains(node))
    }

    fn arranged(fan_out: usize) -> Tree {
        let mut tree = Tree::default();
        tree.arrange(&(0..NODES).map(NodeId).collect::<Vec<_>>(), fan_out);
        tree
    }

    proptest! {
        #[test]
        fn both_ends_agree_whatever_changes(
            fan_out in 1..4_usize,
            changes in proptest::collection::vec(change(), 0..60),
        ) {
            let mut tree = arranged(fan_out);
            for change in changes {
                apply(&mut tree, change);
                prop_assert_eq!(tree.check(), Ok(()), "after {:?}", change);
            }
        }

        #[test]
        fn every_view_that_is_another_one_is_published_once(
            fan_out in 1..4_usize,
            rounds in proptest::collection::vec(proptest::collection::vec(change(), 0..6), 1..12),
        ) {
            let mut tree = arranged(fan_out);
            tree.publish();
            for changes in rounds {
                let before: BTreeMap<_, _> = (0..NODES).map(|n| (n, (view(&tree, n), first_view(&tree, n)))).collect();
                let epoch = tree.epoch();
                changes.into_iter().for_each(|change| apply(&mut tree, change));
                let due = tree.publish();
                prop_assert!(!tree.has_changed() && tree.publish().is_empty());
                prop_assert_eq!(tree.epoch().0, epoch.0 + u32::from(!due.is_empty()));
                for (node, (view_before, since)) in before {
                    let now = view(&tree, node);
                    // The child of a node that was taken out is told once it has another parent.
                    let orphan = now.0.is_none() && (&now.1, now.2) == (&view_before.1, view_before.2);
                    prop_assert!(
                        now == view_before || orphan || due.contains(&NodeId(node)), "{} {:?} {:?}", node, view_before, now);
                    if now.0.is_some() && now.0 != view_before.0 {
                        prop_assert!(first_view(&tree, node) == tree.epoch(), "a new parent is named from now on");
                    }
                    prop_assert!(first_view(&tree, node) >= since);
                }
            }
        }

        #[test]
        fn a_node_moves_with_everybody_below_it(
            fan_out in 1..4_usize,
            node in 1..NODES,
            parent in 0..NODES,
        ) {
            let mut tree = arranged(fan_out);
            let (node, parent) = (NodeId(node), NodeId(parent));
            let below: BTreeSet<_> = tree.subtree(node).collect();
            let inside = below.contains(&parent);
            tree.attach(node, parent);
            prop_assert_eq!(tree.parent(node), Some(if inside { NodeId::ROOT } else { parent }));
            prop_assert_eq!(tree.subtree(node).collect::<BTreeSet<_>>(), below);
            prop_assert!((1..NODES).all(|n| tree.is_below(NodeId(n), NodeId::ROOT)), "nobody is lost");
        }
    }

    #[test]
    fn a_handover_ends_where_it_would_have_begun_and_there_is_one_at_a_time() {
        let mut tree = arranged(1);
        let [first, second, third] = [1, 2, 3].map(NodeId);
        tree.attach(third, first);
        tree.hand_over(third, second);
        tree.hand_over(third, NodeId::ROOT);
        assert_eq!((tree.handover_from(third), tree.handing_over(NodeId::ROOT)), (Some(second), &[][..]));
        tree.attach(third, second);
        assert_eq!((tree.handover_from(third), tree.children(second)), (None, &[third][..]));
    }

    #[test]
    fn what_is_wrong_is_found() {
        let wrong = |spoil: fn(&mut Tree)| {
            let mut tree = arranged(2);
            spoil(&mut tree);
            tree.check().unwrap_err().to_string()
        };
        assert!(
            wrong(|tree| tree.place_mut(NodeId(1)).children.clear()).contains("not a child of its parent")
        );
        assert!(wrong(|tree| tree.place_mut(NodeId(1)).parent = None).contains("for a parent"));
        assert!(wrong(|tree| tree.place_mut(NodeId(1)).handover_from = Some(NodeId(2))).contains("hand"));
        assert!(wrong(|tree| tree.place_mut(NodeId(1)).handing_over.push(NodeId(2))).contains("handed over"));
        assert!(wrong(|tree| tree.place_mut(NodeId(1)).keepers.push(NodeId(2))).contains("keepers"));
        assert!(wrong(|tree| tree.place_mut(NodeId(1)).keeps_for.push(NodeId(2))).contains("keepers"));
        assert!(wrong(|tree| tree.place_mut(NodeId(1)).retains_for = 1).contains("retains"));
        let circle = wrong(|tree| {
            tree.detach(NodeId(1));
            tree.place_mut(NodeId(1)).parent = Some(NodeId(3));
            tree.place_mut(NodeId(3)).children.push(NodeId(1));
        });
        assert!(circle.contains("below itself"), "{circle}");
    }
}
