"use strict";

const { Broker } = require("./broker.cjs");
const { Token } = require("./token.cjs");
const errors = require("./errors.cjs");

module.exports = {
  Broker,
  Token,
  DomoTokenError: errors.DomoTokenError,
  NotRunning: errors.NotRunning,
  Unavailable: errors.Unavailable,
  NotPermitted: errors.NotPermitted,
  UnknownScopeSet: errors.UnknownScopeSet,
  Rejected: errors.Rejected,
};
