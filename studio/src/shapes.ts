// ARKit's 52 blendshapes, in the groups and words of the page, and expressions made of them.

export interface Group { title: string; shapes: string[] }

const sides = (...names: string[]): string[] => names.flatMap((name) => [`${name}Left`, `${name}Right`]);

export const GROUPS: Group[] = [
  { title: "Eyes", shapes: sides("eyeBlink", "eyeSquint", "eyeWide", "eyeLookUp", "eyeLookDown", "eyeLookIn", "eyeLookOut") },
  { title: "Brows", shapes: ["browInnerUp", ...sides("browOuterUp", "browDown")] },
  { title: "Jaw", shapes: ["jawOpen", "jawForward", "jawLeft", "jawRight"] },
  {
    title: "Mouth",
    shapes: [
      ...sides("mouthSmile", "mouthFrown"), "mouthPucker", "mouthFunnel", "mouthClose", "mouthLeft", "mouthRight",
      ...sides("mouthUpperUp", "mouthLowerDown", "mouthStretch", "mouthDimple", "mouthPress"),
      "mouthRollUpper", "mouthRollLower", "mouthShrugUpper", "mouthShrugLower",
    ],
  },
  { title: "Cheeks", shapes: ["cheekPuff", ...sides("cheekSquint")] },
  { title: "Nose", shapes: sides("noseSneer") },
  { title: "Tongue", shapes: ["tongueOut"] },
];

export const SHAPES: string[] = GROUPS.flatMap((group) => group.shapes);

// jawLeft and mouthLeft are ways to go, not halves of a pair.
const WAYS = new Set(["jawLeft", "jawRight", "mouthLeft", "mouthRight"]);

/** Return the same shape of the other side, or null for one that has none. */
export function otherSide(shape: string): string | null {
  if (shape.endsWith("Left")) return `${shape.slice(0, -4)}Right`;
  return shape.endsWith("Right") ? `${shape.slice(0, -5)}Left` : null;
}

/** Return the other half of a pair, or null. */
export function partner(shape: string): string | null {
  return WAYS.has(shape) ? null : otherSide(shape);
}

/** "mouthUpperUpLeft" -> "Upper up, left" */
export function label(shape: string): string {
  const words = shape.replace(/([A-Z])/g, " $1").toLowerCase().split(" ").slice(1);
  const side = partner(shape) ? `, ${words.pop()}` : "";
  const text = words.join(" ") + side;
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Return an expression as a mirror shows it. */
export function mirrored(weights: Record<string, number>): Record<string, number> {
  return Object.fromEntries(Object.entries(weights).map(([name, weight]) => [otherSide(name) ?? name, weight]));
}

const both = (weights: Record<string, number>): Record<string, number> => Object.fromEntries(
  Object.entries(weights).flatMap(([name, weight]) => (
    SHAPES.includes(name) ? [[name, weight]] : [[`${name}Left`, weight], [`${name}Right`, weight]])));

export const EXPRESSIONS: { title: string; weights: Record<string, number> }[] = [
  { title: "Neutral", weights: {} },
  {
    title: "Smile",
    weights: both({ mouthSmile: 0.75, cheekSquint: 0.45, eyeSquint: 0.25, mouthUpperUp: 0.2, mouthDimple: 0.25 }),
  },
  { title: "Surprise", weights: both({ browInnerUp: 0.9, browOuterUp: 0.75, eyeWide: 0.8, jawOpen: 0.5, mouthFunnel: 0.25 }) },
  {
    title: "Anger",
    weights: both({ browDown: 0.9, eyeSquint: 0.35, noseSneer: 0.5, mouthFrown: 0.45, mouthPress: 0.4, jawForward: 0.25 }),
  },
  {
    title: "Sadness",
    weights: both({ browInnerUp: 0.85, mouthFrown: 0.7, mouthShrugLower: 0.35, eyeLookDown: 0.3, eyeBlink: 0.2 }),
  },
  { title: "Kiss", weights: both({ mouthPucker: 0.95, mouthFunnel: 0.2, eyeBlink: 0.15 }) },
  { title: "Wink", weights: { eyeBlinkLeft: 1, cheekSquintLeft: 0.5, mouthSmileLeft: 0.55, mouthSmileRight: 0.2, browOuterUpRight: 0.3 } },
  { title: "Say “ah”", weights: both({ jawOpen: 0.65, mouthLowerDown: 0.2, mouthUpperUp: 0.1 }) },
];
