"""The journal: admits runs, records what they do, and sees to it that each of them ends.

`service.Journal` takes operations into the group commit; `server` speaks the wire protocol to instances; `dispatcher`
and `sweeper` move what nobody works on; `reading` is the read side.
"""
