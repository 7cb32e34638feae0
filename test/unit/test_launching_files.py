"""Launch files: what is read, and that all else is refused by name, with file and line."""

from pathlib import Path

import pytest

from mbrl_ros.errors import LaunchError
from mbrl_ros.launching import actions, description
from mbrl_ros.launching.description import ProcessSpec


def write(folder: Path, text: str, name: str = 'a.launch.yaml') -> Path:
    path = folder / name
    path.write_text(text, encoding='utf-8')
    return path


def resolve(folder: Path, text: str, environment: dict[str, str] | None = None, **given: str) -> list[ProcessSpec]:
    return description.resolve(write(folder, text), given, environment or {}, folder)


def ros_arguments(spec: ProcessSpec) -> list[str]:
    return list(spec.command[spec.command.index('--ros-args') + 1:])


@pytest.mark.parametrize(('text', 'line', 'message'), [
    ('launch:\n- nod: {pkg: a, exec: b}\n', 2, "unknown action 'nod'; did you mean 'node'?"),
    ('launch:\n- node:\n    pkg: mbrl_ros\n    exec: mpc_controller\n    respwan: "true"\n', 5,
     "unknown key 'respwan' in 'node'; did you mean 'respawn'?"),
    ('launch:\n- arg: {name: a}\n- arg:\n    name: b\n    default: 7\n', 5, "'default' of 'arg' needs text (quote it), got 7"),
    ('launch:\n- executable: {cmd: a, respawn_delay: 1}\n', 2, 'needs a number with a decimal point, got 1'),
    ('launch:\n- executable: {cmd: a, respawn: true}\n', 2, "'respawn' of 'executable' needs text (quote it), got True"),
    ('launch:\n- executable:\n    cmd: a\n    respawn_delay: -1.0\n', 4, 'must not be negative'),
    ('launch:\n- executable: {cmd: a, on_exit: restart}\n', 2, "needs 'shutdown', got 'restart'"),
    ('launch:\n- executable:\n    cmd: a\n    on_exit: shutdown\n    respawn: "true"\n', 5, 'exclude each other'),
    ('launch:\n- executable: {cmd: a, output: scren}\n', 2, "needs one of screen, log, both, got 'scren'"),
    ('launch:\n- executable: {cmd: a, if: "true", unless: "true"}\n', 2, "'if' and 'unless' exclude each other"),
    ('launch:\n- executable: {}\n', 2, "'executable' needs the key 'cmd'"),
    ('launch:\n- executable:\n    cmd: $(vra a)\n', 3, "unknown substitution $(vra ...); did you mean 'var'?"),
    ('launch:\n- executable:\n    cmd: $(var a b)\n', 3, 'has 2 arguments; var takes 1'),
    ('launch:\n- executable:\n    cmd: x $(var a\n', 3, 'lacks a closing parenthesis'),
    ('launch:\n- group:\n    children:\n    - executable: {cmd: a, wait: 1}\n', 4, "unknown key 'wait'"),
    ('launch:\n- group: {if: "false", children: [{executable: {cmd: a, b: c}}]}\n', 2, "unknown key 'b'"),
    ('launch:\n- node:\n    pkg: a\n    exec: b\n    param:\n    - {name: c}\n', 6, "parameter 'c' needs either a 'value'"),
    ('launch:\n- node:\n    pkg: a\n    exec: b\n    param:\n    - {name: c, value: 1, type: long}\n', 6, "got 'long'"),
    ('launch:\n- node:\n    pkg: a\n    exec: b\n    param:\n    - {name: c, value: [1, a]}\n', 6, 'a list of one of these'),
    ('launch:\n- executable\n', 2, 'needs one action'),
    ('launch: 7\n', 1, "needs a list under 'launch', got 7"),
    ('lunch: []\n', 1, "unknown key 'lunch'"),
    ('launch:\n- executable: {cmd: a\n- b\n', 4, "expected ',' or '}'"),
    ('launch:\n- executable:\n    cmd: a\n    cmd: b\n', 4, 'duplicate key'),
])
def test_what_is_not_known_is_refused_with_file_and_line(tmp_path, text, line, message):
    path = write(tmp_path, text)
    with pytest.raises(LaunchError) as caught:
        actions.read_file(path)
    assert str(caught.value).startswith(f'{path}:{line}: ')
    assert message in str(caught.value)
    assert '\n' not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(LaunchError, match=r'b\.launch\.yaml: cannot be read \(No such file'):
        actions.read_file(tmp_path / 'b.launch.yaml')


def test_substituted_values_stay_one_word_and_text_is_split_like_a_shell_does(tmp_path):
    [spec] = resolve(tmp_path, 'launch:\n- arg: {name: a}\n- executable: {cmd: "run $(var a) --x=$(var a) \'q r\' s"}\n', a='b c')
    assert spec.command == ('run', 'b c', '--x=b c', 'q r', 's')


def test_environment_substitution_takes_its_default_only_when_unset(tmp_path):
    text = "launch:\n- executable: {cmd: \"a $(env HERE x) $(env AWAY 'two words') $(env AWAY '')\"}\n"
    [spec] = resolve(tmp_path, text, {'HERE': 'there'})
    assert spec.command == ('a', 'there', 'two words', '')
    with pytest.raises(LaunchError, match=r':2: \$\(env AWAY\): the environment has no variable'):
        resolve(tmp_path, 'launch:\n- executable: {cmd: a $(env AWAY)}\n')


def test_substitutions_nest(tmp_path):
    [spec] = resolve(tmp_path, 'launch:\n- arg: {name: which, default: HERE}\n- executable: {cmd: a $(env $(var which))}\n',
                     {'HERE': 'there'})
    assert spec.command == ('a', 'there')


@pytest.mark.parametrize(('one', 'other', 'same'), [
    ('scripted', 'scripted', 'true'), ('scripted', 'keyboard', 'false'), ('True', '1', 'true'), ('true', 'yes', 'false'),
    ('2', '2.0', 'true'), ('2', '3', 'false'), ('', "''", 'true')])
def test_equals_compares_as_ros_does(tmp_path, one, other, same):
    [spec] = resolve(tmp_path, f'launch:\n- arg: {{name: a}}\n- executable: {{cmd: "say $(equals $(var a) {other})"}}\n', a=one)
    assert spec.command == ('say', same)


def test_a_backslash_takes_the_meaning_from_a_dollar(tmp_path):
    [spec] = resolve(tmp_path, 'launch:\n- let: {name: v, value: \'\\$(x)\'}\n- executable: {cmd: a $(var v)}\n')
    assert spec.command == ('a', '$(x)')


def test_parameters_have_the_types_that_ros_infers(tmp_path):
    [spec] = resolve(tmp_path, '''launch:
- arg: {name: a}
- node:
    pkg: mbrl_ros
    exec: mpc_controller
    param:
    - {name: whole, value: 7}
    - {name: real, value: 7.0}
    - {name: truth, value: true}
    - {name: text, value: "7"}
    - {name: list, value: [1.0, 2.0]}
    - {name: inferred, value: $(var a)}
    - {name: kept, value: $(var a), type: str}
    - {name: made_real, value: $(var a), type: float}
    - name: outer
      param:
      - {name: inner, value: 1}
''', a='7')
    words = [word for word in ros_arguments(spec) if word != '-p']
    assert words == ['whole:=7', 'real:=7.0', 'truth:=true', 'text:="7"', 'list:=[1.0, 2.0]', 'inferred:=7', 'kept:="7"',
                     'made_real:=7.0', 'outer.inner:=1']


def test_namespaces_add_up_and_end_with_their_group(tmp_path):
    node = 'node: {pkg: mbrl_ros, exec: mpc_controller%s}'
    specs = resolve(tmp_path, f'''launch:
- group:
    children:
    - push_ros_namespace: {{namespace: lab}}
    - push_ros_namespace: {{namespace: left}}
    - {node % ''}
    - {node % ', namespace: arm'}
    - {node % ', namespace: /other'}
- {node % ''}
- {node % ', namespace: arm'}
''')
    found = [next((word for word in ros_arguments(spec) if word.startswith('__ns')), None) for spec in specs]
    assert found == ['__ns:=/lab/left', '__ns:=/lab/left/arm', '__ns:=/other', None, '__ns:=/arm']


def test_names_remaps_arguments_and_environment_reach_the_process(tmp_path):
    [spec] = resolve(tmp_path, '''launch:
- node:
    pkg: mbrl_ros
    exec: mpc_controller
    name: left
    args: --fast
    ros_args: --log-level warn
    remap: [{from: state, to: /filtered}]
    env: [{name: A, value: b}]
    output: screen
''')
    assert spec.command[-8:] == ('--fast', '--ros-args', '--log-level', 'warn', '-r', '__node:=left', '-r', 'state:=/filtered')
    assert (spec.name, spec.environment, spec.output) == ('mpc_controller-1', {'A': 'b'}, 'screen')


def test_a_parameter_file_is_filled_in_only_on_request(tmp_path):
    file = write(tmp_path, '/**: {ros__parameters: {seed: $(var a)}}\n', 'p.yaml')
    text = '''launch:
- arg: {name: a, default: "3"}
- node:
    pkg: mbrl_ros
    exec: mpc_controller
    param: [{from: $(dirname)/p.yaml%s}]
'''
    [plain] = resolve(tmp_path, text % '')
    [filled] = resolve(tmp_path, text % ', allow_substs: true')
    assert ros_arguments(plain) == ['--params-file', str(file)]
    assert Path(ros_arguments(filled)[1]).read_text(encoding='utf-8') == '/**: {ros__parameters: {seed: 3}}\n'


def test_conditions_choose_and_refuse_what_is_neither_true_nor_false(tmp_path):
    text = 'launch:\n- arg: {name: a}\n- executable: {cmd: yes, if: $(var a)}\n- executable: {cmd: "no", unless: $(var a)}\n'
    text = text.replace('cmd: yes', 'cmd: "yes"')
    assert [resolve(tmp_path, text, a=value)[0].command[0] for value in ('true', '1', 'False', '0')] == ['yes', 'yes', 'no', 'no']
    with pytest.raises(LaunchError, match=r":3: a condition needs true or false, got 'maybe'"):
        resolve(tmp_path, text, a='maybe')


def test_arguments_are_checked_against_declarations_and_choices(tmp_path):
    text = '''launch:
- arg: {name: robot, choice: [{value: panda}, {value: iiwa}], description: The arm.}
- executable: {cmd: a $(var robot)}
'''
    assert resolve(tmp_path, text, robot='iiwa')[0].command == ('a', 'iiwa')
    with pytest.raises(LaunchError, match="no argument 'robto'; did you mean 'robot'"):
        resolve(tmp_path, text, robto='iiwa')
    with pytest.raises(LaunchError, match='robot:=ur5: robot needs one of panda, iiwa'):
        resolve(tmp_path, text, robot='ur5')
    with pytest.raises(LaunchError, match=r":2: the argument 'robot' \(The arm\.\) is required; give robot:=<value>"):
        resolve(tmp_path, text)


def test_included_files_see_and_set_variables_unless_a_group_is_around(tmp_path):
    write(tmp_path, 'launch:\n- arg: {name: a, default: own}\n- executable: {cmd: in $(var a)}\n', 'b.launch.yaml')
    include = 'include: {file: $(dirname)/b.launch.yaml, arg: [{name: a, value: given}]}'
    leaking = resolve(tmp_path, f'launch:\n- let: {{name: a, value: outer}}\n- {include}\n- executable: {{cmd: out $(var a)}}\n')
    scoped = resolve(tmp_path, f'launch:\n- let: {{name: a, value: outer}}\n- group: [{{{include}}}]\n'
                               '- executable: {cmd: out $(var a)}\n')
    assert [spec.command for spec in leaking] == [('in', 'given'), ('out', 'given')]
    assert [spec.command for spec in scoped] == [('in', 'given'), ('out', 'outer')]


def test_an_include_gives_only_declared_arguments_and_never_itself(tmp_path):
    write(tmp_path, 'launch:\n- arg: {name: speed, default: x}\n', 'b.launch.yaml')
    with pytest.raises(LaunchError, match=r":2: b\.launch\.yaml has no argument 'sped'; did you mean 'speed'"):
        resolve(tmp_path, 'launch:\n- include: {file: $(dirname)/b.launch.yaml, arg: [{name: sped, value: z}]}\n')
    with pytest.raises(LaunchError, match='includes itself'):
        resolve(tmp_path, 'launch:\n- include: {file: $(dirname)/a.launch.yaml}\n')


def test_an_argument_that_an_include_decides_is_not_offered(tmp_path):
    write(tmp_path, 'launch:\n- arg: {name: a}\n- arg: {name: b, default: c}\n', 'b.launch.yaml')
    path = write(tmp_path, 'launch:\n- include: {file: $(dirname)/b.launch.yaml, arg: [{name: a, value: x}]}\n')
    assert [argument.name for argument in description.declared_arguments(path, {})] == ['b']


def test_an_unknown_executable_is_refused_where_it_is_named(tmp_path):
    with pytest.raises(LaunchError, match=r":2: mbrl_ros has no executable 'mpc_controler'; did you mean 'mpc_controller'"):
        resolve(tmp_path, 'launch:\n- node: {pkg: mbrl_ros, exec: mpc_controler}\n')
    with pytest.raises(LaunchError, match=r":2: there is no ROS package 'nav3' with executables"):
        resolve(tmp_path, 'launch:\n- node: {pkg: nav3, exec: a}\n')


def test_a_launch_argument_has_the_form_name_value():
    assert description.parse_given(['a:=1', 'b:=x:=y', 'a:=2', 'c:=']) == {'a': '2', 'b': 'x:=y', 'c': ''}
    with pytest.raises(LaunchError, match="'a=1' is not a launch argument; write name:=value"):
        description.parse_given(['a=1'])
