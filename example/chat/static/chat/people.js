// The participants: who is on the page just now.

export class People {
  #list;
  #subscription;
  #changes = null; // what happens while the list is asked for

  /**
   * @param {Element} list The participants as the server rendered them.
   * @param {Subscription} subscription The channel whose presence it is.
   */
  constructor(list, subscription) {
    this.#list = list;
    this.#subscription = subscription;
    subscription.on("join", ({ info }) => this.#changed(info.user, true));
    subscription.on("leave", ({ info }) => this.#changed(info.user, false));
  }

  /** Ask who is here; from then on comings and goings tell. */
  async ask() {
    const changes = (this.#changes = []);
    const presence = await this.#subscription.presence().catch(() => null);
    if (this.#changes !== changes) return; // asked again, or nobody can be seen any more
    this.#changes = null;
    if (!presence) return;
    const present = new Set(Object.values(presence).map((client) => client.user));
    for (const person of this.#list.children) show(person, present.has(person.dataset.person));
    for (const [user, isHere] of changes) this.#show(user, isHere);
  }

  /** Without a connection nobody knows who is here. */
  forget() {
    this.#changes = null;
    for (const person of this.#list.children) show(person, undefined);
  }

  nameOf(user) {
    return this.#find(user)?.querySelector("[data-name]").textContent;
  }

  #changed(user, isHere) {
    this.#changes?.push([user, isHere]);
    this.#show(user, isHere);
  }

  #show(user, isHere) {
    const person = this.#find(user);
    if (person) show(person, isHere);
  }

  #find(user) {
    return [...this.#list.children].find((person) => person.dataset.person === user);
  }
}

function show(person, isHere) {
  const text = person.querySelector("[data-presence]");
  if (isHere === undefined) delete person.dataset.here;
  else person.dataset.here = isHere;
  text.textContent = isHere === undefined ? "" : isHere ? " (here)" : " (away)";
}
