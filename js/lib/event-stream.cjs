"use strict";

/** More than the longest event: a token has at most 64 KiB. */
const MAX_EVENT = 1024 * 1024;

/**
 * An event of `text/event-stream`.
 *
 * @typedef {{ type: string, data: string, id: string }} StreamEvent
 */

/** Parses `text/event-stream`, as it arrives; see the HTML standard, section "Server-sent events". */
class EventParser {
  #rest = "";
  #type = "";
  /** @type {string[]} */
  #data = [];
  #id = "";

  /**
   * Returns the events that are complete with this text.
   *
   * @param {string} text
   * @returns {StreamEvent[]}
   */
  push(text) {
    // The end of "\r\n" may arrive later than its start.
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? "";
    if (this.#rest.length + this.#data.reduce((sum, line) => sum + line.length, 0) > MAX_EVENT) {
      throw new RangeError("the event is too long");
    }
    return lines.flatMap((line) => this.#line(line));
  }

  /**
   * @param {string} line
   * @returns {StreamEvent[]}
   */
  #line(line) {
    if (line === "") {
      return this.#end();
    }
    const [, name = "", value = ""] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
    switch (name) {
      case "event":
        this.#type = value;
        break;
      case "data":
        this.#data.push(value);
        break;
      case "id":
        this.#id = value;
        break;
      default:
      // A comment has no name. Other fields have no meaning here.
    }
    return [];
  }

  /** @returns {StreamEvent[]} */
  #end() {
    const event = { type: this.#type || "message", data: this.#data.join("\n"), id: this.#id };
    const isEmpty = this.#data.length === 0;
    this.#type = "";
    this.#data = [];
    return isEmpty ? [] : [event];
  }
}

module.exports = { EventParser };
