"""The attack audit: what each party learns from a task's model, measured on that model.

Every module is one attack of perturbation.md section 4, with a typed result. An attack that cannot
work on a network raises `NotApplicable` and says why. Numbers are lower bounds on what is learned:
a better attack learns more, none learns less. All randomness here is seeded and public, so that an
audit can be repeated; a market's secrets never come from here.
"""
