from hypothesis import given
from hypothesis import strategies as st

from fastslow.fast.codec import decode, encode
from fastslow.types import Context, Demonstration

CONTEXTS = st.builds(
    Context,
    st.text(),
    st.lists(st.builds(Demonstration, st.text(), st.text(), st.none() | st.text()), max_size=3).map(
        tuple
    ),
)


@given(CONTEXTS)
def test_a_context_survives_the_way_through_gepa(context):
    back = decode(encode(context))
    assert back == context
    assert back.digest == context.digest
    assert all(isinstance(text, str) for text in encode(context).values())
