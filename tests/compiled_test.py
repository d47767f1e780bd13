"""What is read out of compiled programs, of programs whose every instruction is known.

They are written by hand, as XLA prints them; `tests/programs_test.py` has some that XLA
made.
"""

import doctest

import pytest

from benchmarks import compiled, hlo, program_faults


def program(entry: str, others: str = "") -> hlo.Module:
    """A module with the lines of its entry, after some computations."""
    lines = "\n".join(f"  {line.strip()}" for line in entry.strip().splitlines())
    return hlo.read(
        f"HloModule m\n\n{others}\nENTRY %main () -> f32[] {{\n{lines}\n}}\n"
    )


def computation(name: str, body: str) -> str:
    lines = "\n".join(f"  {line.strip()}" for line in body.strip().splitlines())
    return f"%{name} (p: f32[]) -> f32[] {{\n{lines}\n}}\n\n"


def loop(name: str, body: str, trips: int, rest: str = "") -> str:
    known = f'backend_config={{"known_trip_count":{{"n":"{trips}"}}}}'
    return (
        f"%{name} = (s32[], f32[2]{{0}}) while(%t), condition=%c, body=%{body}, "
        f"{rest}{known}"
    )


CONDITION = computation("c", "ROOT %less = pred[] compare(%a, %b), direction=LT")
ADD = computation(
    "add",
    """
    %x = f32[] parameter(0)
    %y = f32[] parameter(1)
    ROOT %sum = f32[] add(%x, %y)
    """,
)
REPLACE = computation(
    "replace",
    """
    %old = f32[] parameter(0)
    ROOT %new = f32[] parameter(1)
    """,
)


def test_the_examples_of_the_reader_are_true():
    assert doctest.testmod(hlo).failed == 0


def test_kernels_calls_and_copies_are_launches_and_views_are_none():
    module = program(
        """
        %x = f32[2]{0} parameter(0)
        %k = f32[] constant(3)
        %view = f32[2,1]{1,0} bitcast(%x)
        %one = (f32[2]{0}, f32[]) fusion(%x, %k), kind=kLoop, calls=%add
        %of = f32[2]{0} get-tuple-element(%one), index=0
        %two = (f32[4,4]{1,0}, s8[9]{0}) custom-call(%of), custom_call_target="a$b"
        %three = f32[2]{0} copy(%of)
        %four = ((f32[2]{0}), f32[2]{0}) all-reduce-start(%three), to_apply=%add
        ROOT %done = f32[2]{0} all-reduce-done(%four)
        """,
        ADD,
    )
    assert compiled.launches(module) == 4


def test_a_loop_counts_as_often_as_it_runs_and_so_does_a_loop_within():
    inner = computation(
        "inner",
        """
        %a = f32[2]{0} fusion(%p), kind=kLoop, calls=%add
        %b = f32[2]{0} copy(%a)
        """,
    )
    outer = computation("outer", f"%x = f32[2]{{0}} copy(%p)\n{loop('w', 'inner', 5)}")
    module = program(
        f"%s = s32[] copy(%k)\n{loop('v', 'outer', 3)}", ADD + CONDITION + inner + outer
    )
    assert compiled.launches(module) == 1 + 3 * (1 + 5 * 2)
    assert [each[:3] for each in compiled.loops(module)] == [(3, 11, 0), (5, 2, 1)]


def test_calls_are_followed_and_of_branches_the_longest_counts():
    short = computation("short", "%a = f32[2]{0} copy(%p)")
    long = computation("long", "%a = f32[2]{0} copy(%p)\n%b = f32[2]{0} copy(%a)")
    module = program(
        """
        %buffer = f32[2]{0} call(%x), to_apply=%long
        %async = ((f32[2]{0}), f32[2]{0}) async-start(%x), calls=%short
        %ready = f32[2]{0} async-done(%async)
        %either = f32[2]{0} conditional(%p, %x, %x), branch_computations={%short, %long}
        %or = f32[] conditional(%q), true_computation=%long, false_computation=%short
        """,
        short + long,
    )
    assert compiled.launches(module) == 2 + 1 + (1 + 2) + (1 + 2)


def test_a_length_that_xla_does_not_tell_is_that_of_the_condition():
    condition = computation(
        "until",
        """
        %count = s32[]{:T(128)} get-tuple-element(%p), index=0
        %limit = s32[]{:T(128)} constant(70)
        ROOT %less = pred[]{:T(512)} compare(%count, %limit), direction=LT
        """,
    )
    body = computation("body", "%a = f32[2]{0} copy(%p)")
    line = "%w = (s32[], f32[2]{0}) while(%t), condition=%until, body=%body"
    assert compiled.launches(program(line, condition + body)) == 70
    other = condition.replace("LT", "NE")
    with pytest.raises(ValueError, match="how often the loop w runs"):
        compiled.launches(program(line, other + body))


@pytest.mark.parametrize(
    "layouts, odd",
    [
        (("{2,1,0}", "{2,1,0}"), []),
        (("{2,0,1}", "{2,1,0}"), ["lib: f32[12,70,280]{2,0,1}"]),
        (("{2,1,0}", "{0,1,2}"), ["lib: f32[70,12,280]{0,1,2}"]),
    ],
)
def test_a_library_call_is_odd_if_an_operand_or_a_result_is(layouts, odd):
    given, made = layouts
    module = program(
        f"""
        %x = f32[12,70,280]{given} copy(%p)
        %y = (f32[70,12,280]{made}, u8[5]) custom-call(%x), custom_call_target="lib"
        """
    )
    assert sorted(program_faults.odd_layouts(module)) == odd


def test_a_product_is_told_how_its_operands_lie():
    module = program(
        """
        %x = f32[12,70]{0,1} copy(%p)
        %y = f32[12,12]{1,0} custom-call(%x), custom_call_target="__cublas$gemm"
        """
    )
    assert program_faults.odd_layouts(module) == []


@pytest.mark.parametrize(
    "dtype, combiner, rest, adds",
    [
        ("f32", "add", "", True),
        ("bf16", "add", "unique_indices=false, ", True),
        ("f32", "add", "unique_indices=true, ", False),
        ("f32", "replace", "", False),
        ("s32", "add", "", False),
    ],
)
def test_a_scatter_adds_if_it_may_meet_one_place_twice(dtype, combiner, rest, adds):
    line = f"ROOT %s = {dtype}[9]{{0}} scatter(%a, %i, %u), {rest}to_apply=%{combiner}"
    module = program(
        """
        %a = f32[9]{0} fusion(%x), kind=kInput, calls=%inside
        %b = f32[9]{0} copy(%a)
        """,
        ADD + REPLACE + computation("inside", line),
    )
    assert len(program_faults.adding_scatters(module)) == adds


def test_a_scatter_in_a_loop_is_found_once():
    line = "%s = f32[9]{0} scatter(%a, %i, %u), to_apply=%add"
    body = computation("body", line)
    module = program(loop("w", "body", 3), ADD + CONDITION + body)
    assert len(program_faults.adding_scatters(module)) == 1


def test_callbacks_and_transfers_ask_the_host():
    module = program(
        """
        %a = f32[] custom-call(%x), custom_call_target="xla_ffi_python_gpu_callback"
        %b = (f32[], u32[], token[]) send(%x, %t), channel_id=1, is_host_transfer=true
        %c = (f32[], u32[], token[]) send(%x, %t), channel_id=2
        %d = f32[] custom-call(%x), custom_call_target="cub_sort"
        """
    )
    assert program_faults.host_callbacks(module) == [
        "xla_ffi_python_gpu_callback",
        "send",
    ]


FRAMES = """FileNames
1 "/home/someone/glrnn/model.py"
2 "/home/someone/glrnn/cells/cell.py"

FunctionNames
1 "apply"
2 "unroll"

FileLocations
1 {file_name_id=1 function_name_id=1 line=20 end_line=20 column=4 end_column=9}
2 {file_name_id=2 function_name_id=2 line=7 end_line=7 column=4 end_column=9}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=2}

"""


def over_time(body: str, frame: int = 2) -> hlo.Module:
    """A program with a loop over an output and two weights."""
    lines = f"""
    %p = (f32[4,3]{{1,0}}, f32[3,3]{{1,0}}, f32[3,3]{{1,0}}) parameter(0)
    %x = f32[4,3]{{1,0}} get-tuple-element(%p), index=0
    %w = f32[3,3]{{1,0}} get-tuple-element(%p), index=1
    %v = f32[3,3]{{1,0}} get-tuple-element(%p), index=2
    {body}
    """
    metadata = f'metadata={{op_name="while" stack_frame_id={frame}}}, '
    entry = loop("loop", "step", 70, metadata)
    return program(entry, FRAMES + CONDITION + ADD + computation("step", lines))


def test_a_loop_is_over_time_if_unroll_made_it():
    (found,) = compiled.loops(over_time("ROOT %r = (f32[4,3]{1,0}) tuple(%x)"))
    assert found.over_time
    assert found.source == ["cells/cell.py:7 unroll", "glrnn/model.py:20 apply"]
    (found,) = compiled.loops(over_time("ROOT %r = (f32[4,3]{1,0}) tuple(%x)", frame=1))
    assert not found.over_time


UNCHANGED = "ROOT %r = (f32[4,3], f32[3,3], f32[3,3]) tuple(%x, %w, %v)"


@pytest.mark.parametrize(
    "body, times",
    [
        ("%y = f32[4,3]{1,0} dot(%x, %w)", 0),
        ("%y = f32[3,3]{0,1} copy(%w)", 1),
        ("%b = f32[9]{0} bitcast(%w)\n%y = f32[9]{0} fusion(%b), calls=%add", 1),
        ("%y = bf16[3,3]{1,0} convert(%w)\n%z = f32[3,3]{0,1} transpose(%v)", 2),
        # The state, and a weight on its way nearer.
        ("%y = f32[4,3]{0,1} copy(%x)", 0),
        ("%y = (f32[3,3]{1,0:S(1)}, f32[3,3]{1,0}, u32[]) copy-start(%w)", 0),
    ],
)
def test_a_weight_is_remade_where_a_step_makes_as_large_a_matrix_of_it(body, times):
    module = over_time(f"{body}\n{UNCHANGED.replace('(%x', '(%y')}")
    assert program_faults.remade_weights(module, 10) == []
    assert len(program_faults.remade_weights(module, 9)) == times


def test_what_a_step_changes_is_no_weight_and_other_loops_are_not_over_time():
    changed = "%y = f32[3,3]{0,1} copy(%w)\n" + UNCHANGED.replace("%w", "%y")
    assert program_faults.remade_weights(over_time(changed), 9) == []
    copied = "%y = f32[3,3]{0,1} copy(%w)\n" + UNCHANGED
    assert program_faults.remade_weights(over_time(copied, frame=1), 9) == []


def test_collectives_are_told_with_what_they_exchange():
    body = computation(
        "body",
        """
        %p = f32[5]{0} parameter(0)
        %g = f32[40]{0} all-gather(%p), dimensions={0}
        """,
    )
    module = program(
        f"""
        %x = f32[3,4]{{1,0}} parameter(0)
        %y = f32[] parameter(1)
        %r = ((f32[3,4], f32[]), (f32[3,4])) all-reduce-start(%x, %y), to_apply=%add
        %d = (f32[3,4], f32[]) all-reduce-done(%r)
        {loop("w", "body", 3)}
        """,
        ADD + CONDITION + body,
    )
    found = compiled.collectives(module)
    assert [(each.opcode, each.num_elements, each.in_loop) for each in found] == [
        ("all-reduce", 13, False),
        ("all-gather", 5, True),
    ]


@pytest.mark.parametrize(
    "text, padding",
    [
        ("f32[16,256]{1,0:T(8,128)}", 1),
        ("f32[16,2]{1,0:T(8,128)}", 64),
        ("f32[16,2]{0,1:T(8,128)}", 8 * 4),
        ("u16[11,507160,2]{2,1,0:T(8,128)(2,1)S(1)}", 64),
        ("f32[12,960]{1,0:T(8,128)}", 16 * 1024 / (12 * 960)),
        ("f32[10]{0:T(1024)}", 102.4),
        ("f32[10,3]{1,0}", 1),
        ("s32[]{:T(128)}", 128),
        ("f32[0,3]{1,0:T(8,128)}", 128 / 3),
    ],
)
def test_padding_is_that_of_the_tiles(text, padding):
    (array,) = hlo.arrays(text)
    assert array.padding == pytest.approx(padding)


def test_small_arrays_and_those_within_kernels_may_be_padded():
    inside = computation("inside", "%y = f32[9000,2]{1,0:T(8,128)} negate(%x)")
    module = program(
        """
        %small = f32[16,2]{1,0:T(8,128)} fusion(%x), kind=kLoop, calls=%inside
        %large = (f32[], f32[9000,2]{1,0:T(8,128)}) fusion(%x), kind=kLoop, calls=%add
        """,
        ADD + inside,
    )
    (found,) = program_faults.padded(module)
    assert found.startswith("f32[9000,2]{1,0} 64 times, 5 MB, in the entry: large")
