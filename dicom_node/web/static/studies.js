"use strict";
watch(["/api/studies", "/api/quarantine"], (studies, quarantine) => {
  fill("studies", studies.map((study) => row([
    cell(study.study_instance_uid, "uid"), cell(study.instance_count), cell(time(study.last_arrival)),
    cell(study.version || "arriving"), cell(study.job_ids.join(" "), "uid")])), 5, "Nothing has arrived yet.");
  fill("quarantine", quarantine.map((one) => row([
    cell(time(one.received_at)), cell(one.calling_aet), cell(one.cause), cell(one.sentence)])), 4, "Empty.");
});
