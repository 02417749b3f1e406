"""What the public host reads: workflows, forms and hooks, as far as files can tell."""
from pathlib import Path
import re

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / '.github'
FORMS = [GITHUB / 'ISSUE_TEMPLATE' / name for name in ('bug.yml', 'feature.yml')]
FIELDS = {'checkboxes', 'dropdown', 'input', 'markdown', 'textarea'}


def read(path: Path) -> dict:
    """Return the mapping that a YAML file is, with 'on' for what YAML 1.1 takes for true."""
    content = yaml.safe_load(path.read_text(encoding='utf-8'))
    assert isinstance(content, dict), path
    return {'on' if key is True else key: value for key, value in content.items()}


JOBS = read(GITHUB / 'workflows/ci.yml')['jobs']


def commands(job: dict) -> str:
    """Return what a job runs, a step per line or more."""
    return '\n'.join(step.get('run', '') for step in job['steps'])


def test_workflow_runs_for_pull_requests_and_may_only_read() -> None:
    workflow = read(GITHUB / 'workflows/ci.yml')
    assert workflow.keys() >= {'name', 'on', 'jobs', 'permissions'}
    assert workflow['on'].keys() == {'push', 'pull_request'}
    assert workflow['permissions'] == {'contents': 'read'}


@pytest.mark.parametrize('name', JOBS)
def test_job_checks_out_and_runs_something(name: str) -> None:
    job = JOBS[name]
    assert job['runs-on'] == 'ubuntu-latest'
    assert job['steps'][0]['uses'].startswith('actions/checkout@v')
    assert commands(job).strip()
    assert all(re.fullmatch(r'actions/[a-z-]+@v\d+', step['uses'])
               for step in job['steps'] if 'uses' in step)


def test_distributions_are_tested_in_their_containers() -> None:
    job = JOBS['distribution']
    assert job['strategy']['matrix'] == {'distribution': ['humble', 'jazzy', 'kilted', 'lyrical']}
    assert job['container']['image'] == 'ros:${{ matrix.distribution }}'
    sourced = 'source "/opt/ros/$ROS_DISTRO/setup.bash"'
    assert commands(job).endswith(f'{sourced} && make setup\n{sourced} && make test')


def test_image_of_each_distribution_is_built_and_must_be_healthy() -> None:
    job = JOBS['container']
    assert job['strategy']['matrix'] == JOBS['distribution']['strategy']['matrix']
    assert 'docker build -f docker/Dockerfile --build-arg ROS=${{ matrix.' in commands(job)
    assert 'health=healthy' in commands(job)


def test_called_targets_are_in_the_makefile() -> None:
    makefile = (ROOT / 'Makefile').read_text(encoding='utf-8')
    hooks = read(ROOT / '.pre-commit-config.yaml')['repos']
    said = [*map(commands, JOBS.values()),
            *(hook.get('entry', '') for repo in hooks for hook in repo['hooks'])]
    targets = set(re.findall(r'(?:^|&& )make ([a-z-]+)', '\n'.join(said), re.M))
    assert targets == {'docs', 'lint', 'setup', 'test'}
    assert [target for target in targets if not re.search(rf'^{target}:', makefile, re.M)] == []


def test_hooks_have_the_pinned_ruff() -> None:
    ruff, local = read(ROOT / '.pre-commit-config.yaml')['repos']
    pin, = re.findall(r'^ruff==(.*)', (ROOT / 'constraints.txt').read_text(), re.M)
    assert ruff['rev'] == f'v{pin}'
    assert [hook['id'] for hook in ruff['hooks']] == ['ruff-check']
    assert local['repo'] == 'local'
    assert local['hooks'][0]['language'] == 'system'


@pytest.mark.parametrize('form', FORMS, ids=lambda form: form.name)
def test_form_can_be_filled_in(form: Path) -> None:
    content = read(form)
    assert content.keys() >= {'name', 'description', 'body'}
    assert {field['type'] for field in content['body']} <= FIELDS
    asked = [field for field in content['body'] if field['type'] != 'markdown']
    names = [field['id'] for field in asked]
    assert len(set(names)) == len(names)
    assert all(field['attributes']['label'] for field in asked)
    assert any(field.get('validations', {}).get('required') for field in asked)


def test_forms_are_those_of_the_folder() -> None:
    there = {path.name for path in (GITHUB / 'ISSUE_TEMPLATE').iterdir()}
    assert there == {'config.yml', *(form.name for form in FORMS)}
    assert read(GITHUB / 'ISSUE_TEMPLATE/config.yml') == {'blank_issues_enabled': True}


def test_pull_requests_are_asked_what_changes_and_how_it_was_checked() -> None:
    template = (GITHUB / 'pull_request_template.md').read_text(encoding='utf-8')
    assert re.findall(r'^## (.*)', template, re.M) == ['What changes, and why',
                                                       'How it was checked']
