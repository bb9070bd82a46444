// Print what Nemotron Home Security tells on its two channels, live.
//
// It needs Node 22 or newer (Node 20 with --experimental-websocket), the address of Home Assistant and a long-lived
// access token, which your profile page in Home Assistant creates under Security:
//
//     HOME_ASSISTANT_URL=http://homeassistant.local:8123 HOME_ASSISTANT_TOKEN=... node subscribe.mjs
//
// In a browser the same works, with the address and the token written here.
const { HOME_ASSISTANT_URL: url, HOME_ASSISTANT_TOKEN: token } = process.env;

// Our two commands: Home Assistant puts their ids on everything that belongs to them.
const commands = [
  { id: 1, type: "nemotron_security/events/subscribe", replay: 5 },
  { id: 2, type: "nemotron_security/system/subscribe" },
];

// Of each channel the number of its last message (`since`) and the run that it belongs to.
const where = { 1: {}, 2: {} };

// While Home Assistant starts it already answers, but does not know our commands, or their integration is not loaded.
// The last one ends a subscription that failed.
const NOT_YET = ["unknown_command", "not_found", "unknown_error"];

function connect() {
  const socket = new WebSocket(`${url.replace(/^http/, "ws").replace(/\/$/, "")}/api/websocket`);
  const send = (message) => socket.send(JSON.stringify(message));

  const handlers = {
    auth_required: () => send({ type: "auth", access_token: token }),
    auth_invalid: ({ message }) => giveUp(`Home Assistant does not let us in: ${message}`),
    auth_ok() {
      // With `since`, what happened while we were away comes first.
      for (const command of commands) send({ ...command, ...where[command.id] });
    },
    result({ id, success, result, error }) {
      if (!success) {
        if (!NOT_YET.includes(error.code)) giveUp(error.message);
        console.log(error.message);
        socket.close();
        return;
      }
      const { seq, run, complete } = result;
      if (!complete) console.log("away too long: something is missing");
      where[id] = { since: complete ? (where[id].since ?? seq) : seq, run };
    },
    event({ id, event }) {
      where[id].since = event.seq;
      if (event.type === "missed") {
        console.log("too slow: coming back for what we missed");
        socket.onmessage = null;
        socket.close();
        return;
      }
      show(event);
    },
  };

  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    handlers[message.type]?.(message);
  };
  socket.onclose = () => {
    console.log("not connected");
    setTimeout(connect, 2000);
  };
}

function show({ type, data }) {
  console.log(`${type}: ${(texts[type] ?? JSON.stringify)(data)}`);
}

const incident = ({ id, risk_level, risk_score, title, summary }) =>
  `#${id} ${risk_level ? `${risk_level} (${risk_score})` : "not judged"}: ${title}. ${summary}`;

const texts = {
  new_event: incident,
  event_updated: incident,
  detection: ({ object_type, confidence, camera_id }) =>
    `${object_type} (${Math.round(confidence * 100)}%) on camera ${camera_id}`,
  camera_status: ({ camera_id, status }) => `camera ${camera_id} is ${status}`,
  gpu_stats: ({ name, gpu_utilization, temperature }) => `${name}: ${gpu_utilization ?? "?"} %, ${temperature ?? "?"} °C`,
};

function giveUp(reason) {
  console.error(reason);
  process.exit(1);
}

connect();
