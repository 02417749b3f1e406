"""Commands on the pages: what they name is there; make docs-check runs those that can run."""
from pathlib import Path
import re

import pytest

pytest.importorskip('rclpy')  # nodes and demo are asked for their options
from support.docs_tools import checking, docs_check, pages  # noqa: E402

DATA = docs_check.read_data()


def commands(folder: Path, text: str) -> list[pages.Command]:
    """Return the commands of a page."""
    page = folder / 'page.md'
    page.write_text(text, encoding='utf-8')
    return pages.read_page(page)


@pytest.mark.parametrize('page', pages.PAGES, ids=lambda page: page.name)
def test_what_the_commands_of_a_page_name_is_there(page: Path) -> None:
    made: set[str] = set()
    wrong = {f'{command.page}:{command.line}: {command.text}': problems
             for command in pages.read_page(page)
             if (problems := checking.check(command, DATA.stand_ins, made))}
    assert wrong == {}


def test_each_reason_and_each_file_is_of_a_command() -> None:
    blocks = [command for page in pages.PAGES for command in pages.read_page(page)
              if not command.inline]
    why = [docs_check.reason(command, DATA.left_out) for command in blocks]
    assert set(DATA.left_out.values()) - set(why) == set()
    run = [command.text for command, reason in zip(blocks, why, strict=True) if not reason]
    used = {name for text in run for name in docs_check.needed(text, DATA.files)}
    assert DATA.files.keys() - used == set()
    assert [name for name in DATA.stand_ins if not any(name in one.text for one in blocks)] == []


@pytest.mark.parametrize(('text', 'problem'), [
    ('vl2v_classify photo.jpg --lables mug', 'unrecognized arguments: --lables'),
    ('vl2v_classify photo.jpg --top-k many', "invalid whole number value: 'many'"),
    ('vl2v_classfy photo.jpg && python training/gone.py --x', 'there is no training/gone.py'),
    ('python -m benchmarks.gone', 'there is no benchmarks.gone'),
    ('$ make demo', 'a block with prompts'),
    ('torchrun --nproc-per-node 4 training/distill.py --config config/distill/oood.yaml',
     'there is no config/distill/oood.yaml'),
    ('python training/distill.py --loss.clss 1', '--loss.clss'),
    ('python training/naming.py photo --out report', 'photo'),
    ('python training/recordings.py import a.safetensors --image PHOTOS', '--image'),
    ('benchmarks/on_gpu.sh --wheel wheels', 'on_gpu.sh has no option --wheel'),
    ('ros2 launch vl2v_ros classify.launch.py checkpont:=student.safetensors',
     'classify.launch.py has no argument checkpont'),
    ('ros2 launch vl2v_ros classify.lanch.py', 'there is no launch file classify.lanch.py'),
    ('ros2 run vl2v_ros camera_node --ros-args -p sorce:=0',
     'camera_node has no parameter sorce'),
    ('ros2 run vl2v_ros camera_node --profile x.json', 'camera_node.py has no option --profile'),
    ('ros2 run vl2v_ros clasifier_node', 'there is no clasifier_node'),
    ('ros2 param set /classifier smothing 0.5', 'classifier_node has no parameter smothing'),
    ('ros2 param set /classifier checkpoint x.safetensors',
     'the parameter checkpoint cannot change while classifier_node runs'),
    ('ros2 service call /classifier/set_vocabulary vl2v_msgs/srv/SetVocabulary '
     '"{lables: [mug]}"', 'vl2v_msgs/srv/SetVocabulary has no field lables'),
    ('ros2 service call /classifier/set_words vl2v_msgs/srv/SetVocabulary "{labels: [mug]}"',
     'no node offers /classifier/set_words'),
    ('ros2 action send_goal /memory/look_for vl2v_msgs/action/Look "{}"',
     'there is no vl2v_msgs/action/Look'),
    ('policy=$(ros2 pkg prefix --share vl2v_ros)/config/sros2/polcy.xml',
     'there is no config/sros2/polcy.xml'),
    ('ls data/ycb_sample/single/{studio,studioo}', 'there is no data/ycb_sample/single/studioo'),
    ("make demo DEMO_ARGS='--sceene'", 'unrecognized arguments: --sceene'),
    ('make bench BENCH_ARG=--quick', 'the Makefile has no variable BENCH_ARG'),
    ('make tset', "No rule to make target 'tset'"),
    ("vl2v_classify photo.jpg --labels 'mug", 'the shell cannot read it'),
])
def test_what_is_not_there_is_found(text: str, problem: str, tmp_path: Path) -> None:
    [command] = commands(tmp_path, f'```\n{text}\n```\n')
    problems = checking.check(command)
    assert problems and problem in '; '.join(problems)


@pytest.mark.parametrize(('text', 'problem'), [
    ('`render.py --count 1 --heap 12`', 'render.py has no option --heap'),
    ('`naming.py presence --calibrat`', 'naming.py has no option --calibrat'),
    ('`make soak MINUTE=8`', 'the Makefile has no variable MINUTE'),
    ('`classify.launch.py autostart:=false\nrespwn:=true`',
     'classify.launch.py has no argument respwn'),
    ('`reliability.fuzz_files --sed 0`', 'fuzz_files.py has no option --sed'),
])
def test_what_a_sentence_names_is_checked(text: str, problem: str, tmp_path: Path) -> None:
    [command] = commands(tmp_path, f'# A page\n\nThis does it: {text}.\n')
    assert (command.line, checking.check(command)) == (3, [problem])


def test_a_program_stops_once_it_has_read_its_options(tmp_path: Path) -> None:
    text = f'python training/render.py --meshes nowhere --out {tmp_path}/out'
    [command] = commands(tmp_path, f'```\n{text}\n```\n')
    assert checking.check(command) == [] and not (tmp_path / 'out').exists()


def test_blocks_are_read_as_a_shell_reads_them(tmp_path: Path) -> None:
    found = commands(tmp_path, '```sh\none \\\n    two  # why\n\nfor x in y; do\n  z; done\n```\n'
                     '```yaml\nno: command\n```\n```console\n$ four\nsaid\n```\n'
                     '```python\nprint(5)\n```\n')
    assert [(command.line, command.text) for command in found] == [
        (2, 'one \\\n    two  # why'), (5, 'for x in y; do\n  z; done'), (12, 'four'),
        (15, "python - <<'END'\nprint(5)\nEND")]


def test_a_page_is_run_in_its_order_in_one_shell(tmp_path: Path) -> None:
    page = tmp_path / 'page.md'
    page.write_text('```\nword=here\ncd docs && echo $word > file\ngrep here file && cd ..\n'
                    'grep it "given.txt"\nfalse\nexit 3\ntest -d vl2v_ros\n'
                    'ros2 topic hz /x\nelsewhere --now\n```\nSay `make help --silent`.\n')
    data = docs_check.Data({'ros2|elsewhere': 'why'}, {}, {'given.txt': 'echo it > given.txt'})
    rows = list(docs_check.run_page(page, data, tmp_path))
    assert [(row.state, row.why) for row in rows] == [
        ('ran', ''), ('ran', ''), ('ran', ''), ('ran', ''), ('failed', 'ended with 1'),
        ('failed', 'ended with its shell'), ('ran', ''), ('checked', 'why'), ('left out', 'why'),
        ('checked', '')]


def test_a_command_that_hangs_is_ended(tmp_path: Path) -> None:
    (tmp_path / 'page').mkdir()
    shell = docs_check.Shell(tmp_path / 'page', {'VENV': '/nowhere'})
    assert shell.run('sleep 60 & wait', 0.2) == (False, '\nended with not within 0.2 s')
    assert shell.run('true')[0]
    shell.close()


def test_the_table_has_a_line_per_command() -> None:
    row = docs_check.Row(pages.Command('README.md', 7, 'make \\\n    demo'), 'failed', 'why', 2.4)
    assert re.sub(' +', ' ', str(row)) == 'README.md:7 failed make \\ ... (2 s)\n why'
