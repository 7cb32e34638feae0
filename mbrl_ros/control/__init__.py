"""The controller: it turns state, mandate, goal and agent into one safe command a control tick."""
