//! Pure. What time does to a group: sessions end, members that do not come are no longer waited for.

use std::sync::Arc;

use super::{ClassicGroup, Effects, Now, Rules, State};
use crate::types::Tick;

impl ClassicGroup {
    /// Does what is due. Afterwards [`ClassicGroup::next_deadline`] lies in the future.
    pub fn expire(&mut self, now: Now, rules: &Rules) -> Effects {
        let mut effects = Effects::default();
        self.expire_pending_joins(now, &mut effects);
        self.expire_sessions(now, &mut effects);
        if self.join_timer.is_some_and(|timer| timer.at <= now.tick) {
            self.join_time_is_up(now, rules, &mut effects);
        }
        if self.sync_deadline.is_some_and(|at| at <= now.tick) {
            self.sync_time_is_up(now, &mut effects);
        }
        effects
    }

    /// The group was read off the log: every session starts now. A group that has outgrown `group.max.size` is
    /// rebalanced, so that it shrinks.
    pub fn loaded(&mut self, now: Now, rules: &Rules) -> Effects {
        let mut effects = Effects::default();
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in &ids {
            self.touch(now, id, &mut effects);
        }
        if ids.len() > rules.max_members {
            self.prepare_rebalance(now, &mut effects, None);
        }
        effects
    }

    /// When [`ClassicGroup::expire`] has something to do, if nothing else happens.
    pub fn next_deadline(&self) -> Option<Tick> {
        let sessions = self.members.values().filter_map(|member| member.deadline);
        let pending = self.pending_joins.values().copied();
        let timers = self.join_timer.map(|timer| timer.at).into_iter().chain(self.sync_deadline);
        sessions.chain(pending).chain(timers).min()
    }

    fn expire_pending_joins(&mut self, now: Now, effects: &mut Effects) {
        let due: Vec<Arc<str>> =
            self.pending_joins.iter().filter(|(_, at)| **at <= now.tick).map(|(id, _)| id.clone()).collect();
        for id in &due {
            self.remove(id);
        }
        if !due.is_empty() {
            self.maybe_complete_join(now, effects);
        }
    }

    fn expire_sessions(&mut self, now: Now, effects: &mut Effects) {
        let mut gone = Vec::new();
        for member in self.members.values_mut().filter(|member| member.deadline.is_some_and(|at| at <= now.tick)) {
            // Its session starts again when it is answered.
            member.deadline = None;
            if !member.is_excused() {
                gone.push(member.id.clone());
            }
        }
        for id in &gone {
            self.dismiss(id, effects);
        }
        if !gone.is_empty() {
            self.somebody_went(now, effects);
        }
    }

    /// The delay before the first generation starts again while members keep coming, up to the rebalance time-out.
    fn join_time_is_up(&mut self, now: Now, rules: &Rules, effects: &mut Effects) {
        let Some(timer) = self.join_timer.take() else { return };
        match timer.initial_remaining_ms {
            Some(remaining) if self.new_member_added && remaining > 0 => {
                self.new_member_added = false;
                let delay = rules.initial_rebalance_delay_ms.clamp(1, remaining);
                self.set_join_timer(now, delay, Some(remaining - delay), effects);
            }
            _ => self.complete_join(now, effects),
        }
    }

    /// Members that joined but never sent SyncGroup hold up all others: they go.
    fn sync_time_is_up(&mut self, now: Now, effects: &mut Effects) {
        self.sync_deadline = None;
        let silent = std::mem::take(&mut self.pending_syncs);
        if silent.is_empty() {
            return;
        }
        for id in &silent {
            self.dismiss(id, effects);
        }
        if matches!(self.state, State::CompletingRebalance | State::Stable) {
            self.prepare_rebalance(now, effects, None);
        }
    }
}
