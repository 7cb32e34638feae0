"""Names of the stack's own topics; most are relative, so that a second robot is a second namespace.

The driver profile names the driver's topics.
"""

STATE = 'state'                          #: JointState, named vector, 100 Hz
GOAL = 'goal'                            #: PoseStamped, base frame, latched
EPISODE = 'episode'                      #: DiagnosticArray holding one `EpisodeReport`, control rate
COMMAND = 'command'                      #: JointState, what the controller asks of the arm, stamp = takes effect
APPLIED_COMMAND = 'applied_command'      #: JointState, velocities that the command guard reached, stamp = took effect
GUARD_STATUS = 'guard_status'            #: DiagnosticArray, control rate, and 10 Hz without commands
EMERGENCY_STOP = 'emergency_stop'        #: Bool, true presses the emergency stop, latched
DEMONSTRATED_ACTION = 'demonstrated_action'  #: JointState, entries of an action, latched
CONTROLLER_STATUS = 'controller_status'  #: DiagnosticArray, control rate
PLAN = 'plan'                            #: JointTrajectory
PREDICTED_PATH = 'predicted_path'        #: MarkerArray
MODEL = 'model'                          #: UInt8MultiArray, a serialised `AgentBundle`, latched
TRAINING = 'training'                    #: DiagnosticArray holding one `TrainingReport`, latched
ROBOT_DESCRIPTION = 'robot_description'  #: String, URDF, latched
DIAGNOSTICS = '/diagnostics'             #: DiagnosticArray, 1 Hz (REP 107)
