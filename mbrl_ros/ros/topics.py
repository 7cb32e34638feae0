"""Names of the stack's own topics; most are relative, so that a second robot is a second namespace.

The driver profile names the driver's topics.
"""

STATE = 'state'                          #: JointState, named vector, 100 Hz
GOAL = 'goal'                            #: PoseStamped, base frame, latched
EPISODE = 'episode'                      #: DiagnosticArray holding one `EpisodeReport`, control rate
APPLIED_COMMAND = 'applied_command'      #: JointState, velocities after the safety filter, stamp = takes effect
DEMONSTRATED_ACTION = 'demonstrated_action'  #: JointState, entries of an action, latched
CONTROLLER_STATUS = 'controller_status'  #: DiagnosticArray, control rate
PLAN = 'plan'                            #: JointTrajectory
PREDICTED_PATH = 'predicted_path'        #: MarkerArray
MODEL = 'model'                          #: UInt8MultiArray, a serialised `AgentBundle`, latched
TRAINING = 'training'                    #: DiagnosticArray holding one `TrainingReport`, latched
ROBOT_DESCRIPTION = 'robot_description'  #: String, URDF, latched
DIAGNOSTICS = '/diagnostics'             #: DiagnosticArray, 1 Hz (REP 107)
