// The colour of each tenant: the same on every page, taken from its name, and another than its neighbours' while
// there are colours left.

const COLOURS = 12;
const places = new Map();
const taken = Array(COLOURS).fill(0);

/** The class that gives an element the tenant's colour. */
export function colour(name) {
  let place = places.get(name);
  if (place === undefined) {
    const first = hash(name) % COLOURS;
    const least = Math.min(...taken);
    place = first;
    while (taken[place] > least) place = (place + 1) % COLOURS;
    taken[place] += 1;
    places.set(name, place);
  }
  return `t${place}`;
}

function hash(name) {
  let sum = 7;
  for (const character of name) sum = (sum * 31 + character.codePointAt(0)) >>> 0;
  return sum;
}
