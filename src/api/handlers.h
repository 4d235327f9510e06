/* The handlers of all routes, by the file they live in. Each answers its call once, at once or later. */
#ifndef ASSAY_API_HANDLERS_H
#define ASSAY_API_HANDLERS_H

struct call;

/* execute.c */
void handle_execute(struct call *call);
/* batch.c */
void handle_execute_batch(struct call *call);
void handle_batch_cancel(struct call *call);
/* status.c */
void handle_status(struct call *call);
void handle_task_get(struct call *call);
/* logs.c */
void handle_logs(struct call *call);
/* tasks.c */
void handle_task_create(struct call *call);
void handle_task_list(struct call *call);
void handle_task_run(struct call *call);
void handle_task_cancel(struct call *call);
void handle_task_why(struct call *call);
/* deliveries.c */
void handle_task_deliveries(struct call *call);
/* events.c */
void handle_events(struct call *call);
void handle_task_events(struct call *call);
/* health.c */
void handle_health(struct call *call);
void handle_ready(struct call *call);
void handle_coordinator_health(struct call *call);
/* metrics.c */
void handle_metrics(struct call *call);
/* openapi.c */
void handle_openapi(struct call *call);

#endif
