/** Return the element of an id. The ids are those of index.html, so a missing one is a mistake of ours. */
export function by<T extends Element = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element #${id}`);
  return found as Element as T;
}

export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K, properties: Partial<HTMLElementTagNameMap[K]> = {}, ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Mark one of several buttons as the chosen one. */
export function choose(buttons: Iterable<HTMLElement>, attribute: string, chosen: (button: HTMLElement) => boolean): void {
  for (const button of buttons) button.setAttribute(attribute, String(chosen(button)));
}
