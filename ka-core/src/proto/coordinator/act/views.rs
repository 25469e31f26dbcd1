//! The messages to nodes about the tree: views, and what is stable.

use core::net::SocketAddr;

use crate::proto::coordinator::member::Member;
use crate::proto::coordinator::stability::{Turn, stable};
use crate::proto::coordinator::state::{Coordinator, Phase};
use crate::proto::timer::Timer;
use crate::time::Instant;
use crate::types::NodeId;
use crate::wire::control::{Peer, ToNode, View};

impl Coordinator {
    /// Tells those whom it concerns what is stable by now.
    pub(super) fn tell_stable(&mut self, now: Instant) {
        if self.phase != Phase::Streaming {
            return;
        }
        let moved = self.nodes.tree.has_changed();
        match self.stability.turn(now, self.nodes.roster.len(), moved) {
            Turn::Later(None) => return,
            Turn::Later(Some(when)) => return self.timers.start(Timer::Ack, when),
            Turn::Less(next) => self.timers.start(Timer::Ack, next),
            Turn::All => self.timers.stop(Timer::Ack),
        }
        let stable = stable(&self.nodes);
        for (number, least) in stable.into_iter().enumerate() {
            let node = NodeId(number as u32);
            let Some(m) = self.nodes.get_mut(node) else { continue };
            let before = m.delivery.stable();
            let news = if moved { least < before } else { least != before };
            if news && m.delivery.set_stable(least) && !m.ending.is_released() {
                self.tell_node(node, ToNode::Stable(least.0));
            }
        }
    }

    /// Tells everybody whose parent or children have changed. Before the start nobody has any.
    pub(super) fn send_views(&mut self) {
        if self.phase == Phase::Gathering {
            self.nodes.tree.forget_changes();
        }
        for node in self.nodes.tree.publish() {
            self.send_view(node);
        }
    }

    /// Tells a node who its parent and children are.
    fn send_view(&mut self, node: NodeId) {
        let tree = &self.nodes.tree;
        let Some(m) = self.nodes.get(node).filter(|m| !m.ending.is_released()) else { return };
        let key = |parent| self.config.links.as_ref().map(|l| l.of_node(parent).of_child(node));
        let peer = |p: &Member| Peer { node: p.node(), addr: seen(p, m), key: key(p.node()) };
        let view = View {
            epoch: tree.epoch(),
            parent: self.nodes.parent(node).map(peer),
            children: tree.listed(node).collect(),
            retain: tree.retains(node),
        };
        self.tell_node(node, ToNode::View(view));
    }
}

/// The address at which `child` reaches `parent`.
///
/// The root listens wherever the child reached the server. A node that joined over loopback shares the
/// server's host: others reach it where they reach the server.
fn seen(parent: &Member, child: &Member) -> SocketAddr {
    let ip = parent.addr().ip();
    let same_host = parent.node() == NodeId::ROOT || (ip.is_loopback() && !child.addr().ip().is_loopback());
    SocketAddr::new(if same_host { child.identity.server_ip() } else { ip }, parent.addr().port())
}
