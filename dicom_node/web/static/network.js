"use strict";
watch(["/api/associations", "/api/commitments"], (associations, commitments) => {
  fill("associations", associations.slice(0, 20).map((one) => row([
    cell(time(one.ended_at)), cell(one.calling_aet), cell(one.address), cell(one.accepted), cell(one.refused),
    cell((one.received_bytes / 1e6).toFixed(1)), cell(((new Date(one.ended_at) - new Date(one.started_at)) / 1000).toFixed(1)),
    cell(one.outcome.replaceAll("_", " "))])), 8, "Nobody has sent anything yet.");
  fill("commitments", commitments.slice(0, 20).map((one) => row([
    cell(time(one.received_at)), cell(one.calling_aet), cell(one.state), cell(one.attempts), cell(one.sentence)])),
    5, "Nobody has asked for it.");
});
