//! Stack distances: how many distinct members were touched since a member was touched
//! last, itself included.
//!
//! A Fenwick tree counts the members by the time when they were touched last. Times
//! are renumbered when they run out, which happens at most once for as many touches as
//! there are members: memory is bounded by those, a touch takes `O(log n)`.

/// Times for this many touches at least.
const TIMES_MIN: usize = 1 << 12;

#[derive(Debug)]
pub(super) struct Stack {
    /// The Fenwick tree over times, from 1.
    sums: Vec<u32>,
    /// Who was touched last at a time.
    member: Vec<u32>,
    /// When a member was touched last, 0 for never.
    last: Vec<u32>,
    now: usize,
    members: u32,
}

const NOBODY: u32 = u32::MAX;

impl Stack {
    /// For members below `members`, or more later on.
    pub(super) fn new(members: usize) -> Self {
        Stack {
            sums: vec![0; TIMES_MIN + 1],
            member: vec![NOBODY; TIMES_MIN + 1],
            last: vec![0; members],
            now: 0,
            members: 0,
        }
    }

    /// Touches a member; how far down it was, from 1, if it was touched before.
    pub(super) fn touch(&mut self, member: u32) -> Option<u32> {
        if self.last.len() <= member as usize {
            self.last.resize(member as usize + 1, 0);
        }
        if self.now + 1 == self.sums.len() {
            self.renumber();
        }
        let last = self.last[member as usize] as usize;
        let distance = (last > 0).then(|| self.members - self.up_to(last) + 1);
        self.remove(member);
        self.now += 1;
        self.add(self.now, 1);
        self.member[self.now] = member;
        self.last[member as usize] = u32::try_from(self.now).unwrap_or(NOBODY);
        self.members += 1;
        distance
    }

    /// Forgets a member.
    pub(super) fn remove(&mut self, member: u32) {
        let last = std::mem::take(&mut self.last[member as usize]) as usize;
        if last > 0 {
            self.add(last, -1);
            self.member[last] = NOBODY;
            self.members -= 1;
        }
    }

    /// How many were touched last at `time` or before.
    fn up_to(&self, time: usize) -> u32 {
        let (mut at, mut sum) = (time, 0_u32);
        while at > 0 {
            sum = sum.wrapping_add(self.sums[at]);
            at &= at - 1;
        }
        sum
    }

    fn add(&mut self, time: usize, by: i32) {
        let mut at = time;
        while at < self.sums.len() {
            self.sums[at] = self.sums[at].wrapping_add_signed(by);
            at += at & at.wrapping_neg();
        }
    }

    /// Gives the members the first times, in their order, and room for as many more.
    fn renumber(&mut self) {
        let mut members = std::mem::take(&mut self.member);
        members.retain(|member| *member != NOBODY);
        let times = (2 * members.len()).max(TIMES_MIN);
        self.sums.clear();
        self.sums.resize(times + 1, 0);
        self.now = members.len();
        for (time, member) in (1_u32..).zip(&members) {
            self.last[*member as usize] = time;
            self.sums[time as usize] = 1;
        }
        for at in 1..=times {
            let above = at + (at & at.wrapping_neg());
            if above <= times {
                self.sums[above] = self.sums[above].wrapping_add(self.sums[at]);
            }
        }
        members.insert(0, NOBODY);
        members.resize(times + 1, NOBODY);
        self.member = members;
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::random::Random;
    use super::*;

    /// The same with a list.
    #[test]
    fn distances_are_those_of_a_list() {
        let (mut random, mut stack) = (Random::new(1), Stack::new(0));
        let mut list: Vec<u32> = Vec::new();
        for step in 0..40_000 {
            let range = if step % 5000 < 2500 { 20 } else { 600 };
            let member = u32::try_from(random.below(range)).unwrap();
            let at = list.iter().rposition(|found| *found == member);
            let distance = at.map(|at| u32::try_from(list.len() - at).unwrap());
            if let Some(at) = at {
                list.remove(at);
            }
            if step % 97 == 0 {
                if at.is_some() {
                    stack.remove(member);
                }
                continue;
            }
            list.push(member);
            assert_eq!(stack.touch(member), distance);
        }
    }
}
